"""Hard cases of our own: queries, an answer to each, and texts that only resemble one.

There are three sorts. In the first, near misses share the query's words and are about another
thing, or say the opposite. In the second, the answer shares no word with the query, and a near miss
shares several. In the third, the query is typed carelessly. All sentences were written for this
file; those that state facts state true ones, unless they are near misses.
"""

from __future__ import annotations

SAME_WORDS = [
    (
        "Which sea does the Rhône flow into?",
        "After passing Arles, the Rhône reaches the Mediterranean.",
        [
            "The Rhine flows into the North Sea near Rotterdam.",
            "Lake Geneva, which the Rhône flows through, is not a sea, though some call it one.",
        ],
    ),
    (
        "Which sea does the Danube flow into?",
        "The Danube ends in a wide delta on the Black Sea.",
        [
            "The Volga flows into the Caspian Sea.",
            "The Danube flows through ten countries and four of their capitals.",
        ],
    ),
    (
        "What is the currency of Poland?",
        "Poles pay in złoty.",
        ["The capital of Poland is Warsaw.", "The currency of Hungary is the forint."],
    ),
    (
        "What is the capital of Kenya?",
        "Kenya is governed from Nairobi, its capital.",
        ["The currency of Kenya is the shilling.", "The capital of Uganda is Kampala."],
    ),
    (
        "What is the capital of Canada?",
        "Parliament sits in Ottawa, the Canadian capital.",
        ["The largest city of Canada is Toronto.", "The capital of Australia is Canberra."],
    ),
    (
        "What is the official language of Angola?",
        "Portuguese is the official language of Angola.",
        [
            "The official currency of Angola is the kwanza.",
            "The official language of Chad is French and Arabic.",
        ],
    ),
    (
        "Who wrote Frankenstein?",
        "Mary Shelley published Frankenstein in 1818, when she was twenty.",
        [
            "Bram Stoker wrote Dracula, which appeared in 1897.",
            "Boris Karloff played the monster in the film Frankenstein of 1931.",
        ],
    ),
    (
        "Who composed The Magic Flute?",
        "Mozart finished The Magic Flute in the last year of his life.",
        [
            "The flute was played by the orchestra's first flautist, who had a magic touch.",
            "Beethoven composed only one opera, Fidelio.",
        ],
    ),
    (
        "Who painted The Night Watch?",
        "Rembrandt completed The Night Watch in 1642.",
        [
            "The painter stayed awake to watch the night sky and then painted it.",
            "The Starry Night was painted by Vincent van Gogh.",
        ],
    ),
    (
        "When was the telephone invented?",
        "Alexander Graham Bell received a patent for the telephone in 1876.",
        [
            "Alexander Graham Bell was born in Edinburgh.",
            "The television was invented in the 1920s.",
        ],
    ),
    (
        "How tall is Mount Kilimanjaro?",
        "Kilimanjaro rises to 5,895 metres above sea level.",
        [
            "Kilimanjaro lies in the north of Tanzania, close to the border.",
            "Mount Kenya is 5,199 metres tall.",
        ],
    ),
    (
        "How long is the Nile?",
        "The Nile runs for about 6,650 kilometres.",
        [
            "The Nile floods used to come every summer.",
            "The Amazon is about 6,400 kilometres long.",
        ],
    ),
    (
        "How deep is Lake Baikal?",
        "At its deepest point Lake Baikal goes down 1,642 metres.",
        ["Lake Baikal is 636 kilometres long.", "Lake Tanganyika is 1,470 metres deep."],
    ),
    (
        "How many strings does a violin have?",
        "A violin has four strings, tuned in fifths.",
        [
            "A guitar usually has six strings.",
            "A violin is held under the chin and played with a bow.",
        ],
    ),
    (
        "How many players are in a volleyball team?",
        "In volleyball each side has six people on the court.",
        ["A basketball team has five players on the court.", "Volleyball was invented in 1895."],
    ),
    (
        "What do pandas eat?",
        "Bamboo makes up nearly all of a panda's diet.",
        [
            "Pandas live in the mountains of central China.",
            "Koalas eat the leaves of eucalyptus trees.",
        ],
    ),
    (
        "Where do emperor penguins breed?",
        "Emperor penguins raise their chicks on the sea ice of Antarctica.",
        [
            "Emperor penguins eat fish, krill and squid.",
            "African penguins breed on the coasts of Namibia and South Africa.",
        ],
    ),
    (
        "What is the boiling point of ethanol?",
        "Ethanol boils at 78 degrees Celsius.",
        [
            "Ethanol freezes at minus 114 degrees Celsius.",
            "The boiling point of methanol is 65 degrees Celsius.",
        ],
    ),
    (
        "What is the chemical symbol of tin?",
        "Tin is written Sn, from its Latin name stannum.",
        ["The chemical symbol of lead is Pb.", "Tin melts at 232 degrees Celsius."],
    ),
    (
        "Which planet has the most moons?",
        "With more than 140 known moons, Saturn leads the solar system.",
        ["The Moon is the only natural satellite of our planet.", "Jupiter is the largest planet."],
    ),
    (
        "Why is the sky blue?",
        "Air scatters short wavelengths most, so blue light reaches us from all sides.",
        [
            "The sky was blue that morning, and nobody asked why.",
            "The sea looks green where algae grow.",
        ],
    ),
    (
        "Why do leaves turn red in autumn?",
        "As the green chlorophyll breaks down, some trees make red pigments called anthocyanins.",
        [
            "The leaves fall in autumn and are raked into heaps.",
            "Leaves are green because of chlorophyll.",
        ],
    ),
    (
        "Which team did Brazil beat in the final of the 2002 World Cup?",
        "Brazil won the 2002 final against Germany, two goals to nil.",
        [
            "Brazil lost the final of the 1998 World Cup to France.",
            "Germany beat Brazil in a semi-final in 2014.",
        ],
    ),
    (
        "Who did Norway's women beat in the match?",
        "The Norwegian women won the match against Denmark after extra time.",
        ["Norway's women were beaten by Sweden.", "Norway's men beat Denmark."],
    ),
    (
        "Who taught Aristotle?",
        "Aristotle studied under Plato for twenty years.",
        ["Aristotle taught the young Alexander the Great.", "Socrates taught Plato."],
    ),
    (
        "Which company bought Instagram?",
        "Instagram was acquired by Facebook in 2012.",
        ["Many companies advertise on Instagram.", "Google bought YouTube in 2006."],
    ),
    (
        "Does the train from Bern to Milan stop in Brig?",
        "Trains between Bern and Milan call at Brig before they enter the tunnel.",
        [
            "The train from Milan to Venice stops in Brescia.",
            "Brig has an old castle close to the station.",
        ],
    ),
    (
        "Ferries from Dover to Calais",
        "Ships leave Dover for Calais about every hour; the crossing takes ninety minutes.",
        [
            "Ferries from Calais also go to other ports.",
            "Trains from Dover to London leave every half hour.",
        ],
    ),
    (
        "How do I convert miles to kilometres?",
        "Multiply the number of miles by 1.609.",
        [
            "Multiply the number of inches by 2.54 to get centimetres.",
            "To convert kilograms to pounds, multiply by 2.205.",
        ],
    ),
    (
        "How do I delete a branch in git?",
        "git branch -d NAME removes a branch that has been merged.",
        ["git branch NAME creates a branch.", "git rm FILE deletes a file from the index."],
    ),
    (
        "How do I copy a folder on Linux?",
        "cp -r SOURCE TARGET copies a directory with everything in it.",
        ["cp SOURCE TARGET copies a single file.", "mv SOURCE TARGET moves a folder."],
    ),
    (
        "How do I sort a list in Python in reverse order?",
        "Call sorted(values, reverse=True).",
        [
            "A list in Python is written in square brackets.",
            "values.reverse() turns a list around but does not sort it.",
        ],
    ),
    (
        "Which port does HTTPS use?",
        "HTTPS listens on port 443 unless told otherwise.",
        ["The port that HTTP uses is 80.", "HTTPS encrypts what is sent."],
    ),
    (
        "Can I return shoes that I have worn outside?",
        "Footwear that has been used outdoors cannot be given back.",
        ["Shoes can be returned in any shop.", "Wear your new shoes inside for a day or two."],
    ),
    (
        "Is breakfast included in the room price?",
        "The rate covers the room only; in the morning there is a buffet for 12 euros.",
        [
            "Breakfast is served from seven to ten.",
            "The price of the room includes a parking space.",
        ],
    ),
    (
        "Which vaccines need a second dose after six months?",
        "For hepatitis A the second injection is given half a year after the first.",
        [
            "The flu vaccine is given once a year.",
            "A dose of six grams a day should not be exceeded.",
        ],
    ),
    (
        "Who is the author of the report on bees?",
        "The report on bees was written by Dr Amara Osei.",
        ["The report on wasps was written by Dr Lin Chen.", "The report on bees has ninety pages."],
    ),
    (
        "When does the library open on Saturday?",
        "On Saturdays the doors open at ten.",
        ["The library closes at six on weekdays.", "On Saturday the museum opens at nine."],
    ),
    (
        "What caused the fire in the warehouse?",
        "Investigators found that a faulty battery had set the warehouse alight.",
        [
            "The fire in the warehouse was put out after six hours.",
            "The warehouse stored tyres and paint.",
        ],
    ),
    (
        "What are the side effects of ibuprofen?",
        "Ibuprofen may cause stomach pain, heartburn and nausea.",
        [
            "Ibuprofen relieves pain and lowers a fever.",
            "The side effects of antihistamines include drowsiness.",
        ],
    ),
    (
        "What are the symptoms of scurvy?",
        "People with scurvy have bleeding gums, loose teeth and wounds that don't heal.",
        ["Scurvy is treated with vitamin C.", "The symptoms of rickets are soft, bent bones."],
    ),
    (
        "How is malaria transmitted?",
        "The parasite enters the blood with the bite of an infected mosquito.",
        [
            "Malaria is treated with drugs that contain artemisinin.",
            "Measles is transmitted through the air.",
        ],
    ),
    (
        "Does aspirin prevent a second stroke?",
        "In patients who had had a stroke, daily aspirin lowered the risk of another by a fifth.",
        ["Aspirin was first sold in 1899.", "Strokes are more common in winter than in summer."],
    ),
    (
        "Vitamin D supplements reduce fractures in older adults.",
        "In people over 70, hip fractures were as frequent with vitamin D as with placebo.",
        [
            "Vitamin D is formed in the skin by sunlight.",
            "Fractures of the wrist are common among skaters.",
        ],
    ),
    (
        "Coffee drinking is associated with a lower risk of type 2 diabetes.",
        "In this cohort, those with four or more cups a day developed diabetes less often.",
        ["Coffee is grown in more than fifty countries.", "Type 2 diabetes is often found late."],
    ),
    (
        "Fatigue cracks grow faster in salt water.",
        "Specimens tested in brine showed crack growth rates three times those measured in air.",
        [
            "Salt water is pumped through the plant to cool it.",
            "Workers report fatigue after night shifts.",
        ],
    ),
    (
        "heat transfer in narrow channels with boiling",
        "The heat transfer to water that boils in ducts one millimetre wide was measured.",
        [
            "Heat loss through narrow windows was estimated.",
            "Boiling eggs for ten minutes makes them hard.",
        ],
    ),
    (
        "pressure distribution on a delta wing at supersonic speed",
        "Surface pressures of a triangular wing were recorded at Mach 2.",
        [
            "The pressure in the cabin falls at cruising altitude.",
            "The wing of the museum is shaped like a delta.",
        ],
    ),
    (
        "Can cats see in complete darkness?",
        "Cats need some light: where there is none at all, they see nothing.",
        ["Cats sleep for most of the day.", "Owls hear a mouse in complete darkness."],
    ),
    (
        "Is a tomato a fruit?",
        "Botanically, the tomato is a berry and so a fruit.",
        ["Tomato soup is served with bread.", "A carrot is a root."],
    ),
    (
        "Which mushrooms are not poisonous?",
        "Chanterelles and porcini are safe to eat.",
        [
            "The death cap and the destroying angel are poisonous.",
            "Mushrooms grow well after rain.",
        ],
    ),
    (
        "Which countries do not require a visa?",
        "Travellers from Japan and Chile enter without one.",
        ["Travellers from these countries require a visa.", "A visa costs 80 euros."],
    ),
    (
        "animals that cannot fly although they have wings",
        "Ostriches, emus and kiwis stay on the ground.",
        ["Swallows have long wings and fly very fast.", "Bats are animals that can fly."],
    ),
    (
        "Metals that are liquid at room temperature",
        "Mercury flows at 20 degrees.",
        ["Iron is a solid metal at room temperature.", "Water is liquid at room temperature."],
    ),
    (
        "Which dishes on the menu contain no meat?",
        "The lentil curry and the mushroom pie are vegetarian.",
        ["All dishes on this page contain meat.", "No dish costs more than 15 euros."],
    ),
    (
        "Who did not sign the treaty?",
        "Of the twelve states, Norway alone withheld its signature.",
        ["Twelve states were invited to sign the treaty.", "The treaty was signed in Paris."],
    ),
    (
        "Was the bridge damaged in the flood?",
        "The crossing came through the high water unharmed.",
        ["The flood damaged forty houses.", "The bridge was painted last year."],
    ),
    (
        "The vaccine did not reduce infections.",
        "The number of people who fell ill was the same with the vaccine and with the placebo.",
        ["The vaccine has to be kept cold.", "Infections are reduced by washing hands."],
    ),
    (
        "Does stretching before running prevent injuries?",
        "A trial of 2,700 runners found as many injuries with stretching as without.",
        ["Running shoes should be replaced after 800 kilometres.", "Stretching is part of yoga."],
    ),
    (
        "What does the warranty not cover?",
        "Damage by water and scratches are excluded.",
        ["The warranty covers all parts for two years.", "Cover the device when it is not in use."],
    ),
    (
        "first woman to win the Nobel Prize in Literature",
        "Selma Lagerlöf received the literature prize in 1909, the first female laureate.",
        [
            "The first Nobel Prize in Literature went to Sully Prudhomme.",
            "Marie Curie was the first woman to win a Nobel Prize.",
        ],
    ),
    (
        "second largest city in Portugal",
        "Porto comes after Lisbon in size.",
        [
            "Lisbon is the largest city in Portugal.",
            "Barcelona is the second largest city in Spain.",
        ],
    ),
    (
        "Who succeeded Queen Victoria?",
        "Her son became king as Edward VII in 1901.",
        ["Queen Victoria succeeded her uncle William IV.", "Queen Victoria married Prince Albert."],
    ),
    (
        "What year did the war between Prussia and Austria begin?",
        "Prussian troops marched against Austria in June 1866.",
        [
            "The war between Prussia and France ended in 1871.",
            "The Austrian emperor visited Prussia the year after.",
        ],
    ),
    (
        "What is the melting point of chocolate?",
        "Chocolate softens and turns liquid between 30 and 34 degrees Celsius.",
        [
            "Milk chocolate contains at least a quarter of cocoa.",
            "The melting point of butter lies a little higher.",
        ],
    ),
    (
        "How often should I water a cactus?",
        "A cactus is content with a drink every three weeks.",
        ["Water a basil plant every day.", "A cactus stores water in its stem."],
    ),
    (
        "How long do I boil an egg so that the yolk stays soft?",
        "After six minutes in bubbling water the white has set and the middle still runs.",
        ["Egg yolk is rich in vitamins.", "Boil potatoes for twenty minutes until they are soft."],
    ),
    (
        "Is the museum free on Sundays?",
        "On the first Sunday of a month nobody pays for admission.",
        ["The museum is closed on Mondays.", "Children swim free on Sundays at the pool."],
    ),
    (
        "Which bus goes to the airport?",
        "Line 37 ends at the terminals.",
        ["The bus to the harbour leaves from here.", "The airport has two runways."],
    ),
    (
        "Which of the two brothers became a doctor?",
        "Henrik studied medicine and opened a practice.",
        ["Both brothers went to see a doctor.", "One of the two brothers became a baker."],
    ),
    (
        "Who directed the film and who wrote its music?",
        "Ana Ruiz was the director; the score is by Paul Meyer.",
        [
            "The film was shown with live music.",
            "The director of the music school watched the film.",
        ],
    ),
    (
        "maximum file size for uploads",
        "Files of up to 50 MB are accepted.",
        ["The maximum number of uploads per day is twenty.", "Uploads are scanned for viruses."],
    ),
    (
        "Turn off two-factor authentication",
        "To disable the second login step, open Security and move the switch to the left.",
        [
            "To turn on two-factor authentication, scan the code with your phone.",
            "Turn off the device before you open it.",
        ],
    ),
    (
        "increase the timeout of a request",
        "Pass timeout=60 to wait longer for an answer.",
        [
            "A request that times out is retried twice.",
            "Increase the number of workers to serve more requests.",
        ],
    ),
    (
        "What is the minimum age for renting a car?",
        "Drivers must be 21 or older to hire one.",
        [
            "The minimum rental period of a car is one day.",
            "Cars of any age must pass an inspection.",
        ],
    ),
    (
        "Can I bring my dog on the train?",
        "Small pets in a carrier travel at no charge; larger ones need a half-fare ticket.",
        [
            "Assemble the toy train before your dog finds it.",
            "You can bring a bicycle on the train.",
        ],
    ),
    (
        "Which river flows through Prague?",
        "Prague lies on both banks of the Vltava.",
        ["The river that flows through Vienna is the Danube.", "Prague has eighteen bridges."],
    ),
    (
        "What is the population of Iceland?",
        "Fewer than 400,000 people live in Iceland.",
        [
            "Iceland has an area of 103,000 square kilometres.",
            "The population of Ireland is about five million.",
        ],
    ),
    (
        "Who discovered penicillin?",
        "In 1928 Alexander Fleming saw a mould kill his bacteria, and so found penicillin.",
        ["Penicillin is given against bacterial infections.", "Wilhelm Röntgen discovered X-rays."],
    ),
    (
        "What is the speed of sound in water?",
        "Sound travels through water at about 1,480 metres a second.",
        [
            "The speed of light in water is three quarters of that in a vacuum.",
            "The sound of water calms many people.",
        ],
    ),
]

OTHER_WORDS = [
    (
        "money used in Tokyo",
        "The yen is what shops in Japan take.",
        [
            "In Tokyo people use the underground a lot.",
            "Money can be used to buy tickets at the machine.",
        ],
    ),
    (
        "I can't fall asleep at night",
        "Go to bed at a fixed hour, keep the room dark and leave your phone outside.",
        ["At night the temperature may fall below zero.", "The village is asleep by nine."],
    ),
    (
        "my nose won't stop running",
        "Antihistamine sprays help against hay fever.",
        ["Running in the park is not allowed after dark.", "The boxer's nose was broken."],
    ),
    (
        "my stomach hurts after eating cheese",
        "People who lack the enzyme lactase get cramps from dairy products.",
        [
            "Cheese is aged for a year before eating.",
            "Fasting on an empty stomach is not for everyone.",
        ],
    ),
    (
        "my head is pounding",
        "For a migraine, lie down in a dark quiet room and take a painkiller early.",
        [
            "The waves were pounding the head of the pier.",
            "Pounding spices in a mortar brings out their taste.",
        ],
    ),
    (
        "I twisted my ankle",
        "Rest the joint, cool it with ice, wrap it firmly and keep the leg up.",
        ["The path twisted up the hill.", "Ankle boots are in fashion again."],
    ),
    (
        "feeling down all the time",
        "A low mood that lasts more than two weeks may be depression; a doctor can help.",
        ["Sit down whenever you have the time.", "Prices have been going down all the time."],
    ),
    (
        "the baby has a temperature",
        "In infants a fever above 38 degrees should be seen by a paediatrician.",
        ["The temperature of the room has to be constant.", "The baby has a new pram."],
    ),
    (
        "burned my hand on the stove",
        "Hold the skin under cool running water for twenty minutes and don't put butter on it.",
        ["The stove is lit by hand.", "Wood burned in this stove should be dry."],
    ),
    (
        "stung by a wasp",
        "Wash the spot, put something cold on it and watch for swelling of the face.",
        ["A wasp builds its nest of chewed wood.", "He was stung by the criticism."],
    ),
    (
        "how to get rid of wrinkles in a shirt",
        "Hang it in the bathroom while you shower, or press it with a hot iron.",
        ["Wrinkles around the eyes come with age.", "Get the shirt in another size."],
    ),
    (
        "red wine on the carpet",
        "Blot the stain at once, sprinkle salt on it and rinse with sparkling water.",
        ["Red wine is served at room temperature.", "The stars walked along the red carpet."],
    ),
    (
        "sink won't drain",
        "A plunger usually clears blocked pipes; otherwise unscrew the trap below the basin.",
        ["The ship began to sink.", "The drain of talent worries the company."],
    ),
    (
        "smoke alarm keeps beeping",
        "A chirp every minute means the battery is nearly empty.",
        ["Keep the alarm code secret.", "Smoke salmon over beech wood."],
    ),
    (
        "my bread didn't rise",
        "Old yeast or water that is too hot leaves the dough flat.",
        ["Bread prices rise again.", "The sun didn't rise until nine."],
    ),
    (
        "cake sank in the middle",
        "Opening the oven early lets the batter collapse.",
        ["The boat sank in the middle of the lake.", "Cut the cake in the middle."],
    ),
    (
        "too much salt in the soup",
        "Add potatoes, cream or a splash of vinegar to soften the taste.",
        ["Salt is won from the sea.", "The soup is too hot."],
    ),
    (
        "plant has yellow leaves",
        "Overwatering makes the roots rot, and the foliage pales.",
        ["The plant leaves no room for errors.", "Yellow paint covers well."],
    ),
    (
        "keep slugs off the lettuce",
        "Copper tape, beer traps and an evening round with a torch protect salad beds.",
        ["Keep lettuce in the fridge.", "Slugs have no shell."],
    ),
    (
        "car makes a squealing noise when braking",
        "Worn pads scrape on the disc and ought to be replaced.",
        ["The car brakes the record for noise.", "Pigs make a squealing noise."],
    ),
    (
        "bike tyre is flat",
        "Find the hole in the inner tube, roughen the rubber and glue a patch on it.",
        ["The land is flat and good to bike through.", "The tyre factory closed."],
    ),
    (
        "laptop is very hot and loud",
        "Clean the dust from the fan, and close programs that keep the processor busy.",
        ["The party was very hot and loud.", "A laptop bag is included."],
    ),
    (
        "my phone dies after two hours",
        "A worn-out battery holds little charge; have it exchanged.",
        ["The king dies after two hours on the stage.", "You can phone us after two."],
    ),
    (
        "computer forgot what time it is",
        "When the coin cell on the mainboard is empty, the clock starts in 1970 after every boot.",
        ["It is time to buy a computer.", "Don't forget the computer course."],
    ),
    (
        "the screen froze and nothing reacts",
        "Hold the power button for ten seconds to force a restart.",
        ["The lake froze in January.", "A screen door keeps insects out."],
    ),
    (
        "program says it has no space left",
        "The disk is full: look with df which partition it is, and remove old logs.",
        [
            "There is no space left in the car park.",
            "The space program says it will launch in May.",
        ],
    ),
    (
        "website shows a padlock with a line through it",
        "The certificate has expired, so the connection is not secure.",
        ["Lock your bicycle with a padlock.", "The line at the website's shop was long."],
    ),
    (
        "script runs by hand but not from cron",
        "Scheduled jobs get a bare environment: set PATH yourself and use absolute file names.",
        ["The script was written by hand.", "Cron was developed in the 1970s."],
    ),
    (
        "make my query faster",
        "An index on the column in the WHERE clause spares the database a full scan.",
        ["Query letters make a good impression on publishers.", "Faster trains run from May."],
    ),
    (
        "who can see my pictures",
        "Albums are private by default; only friends that you invite have access.",
        ["Pictures can be seen in the gallery.", "Who painted these pictures?"],
    ),
    (
        "got the wrong item in my parcel",
        "If we sent what you didn't order, we'll collect it and ship the right goods.",
        ["Parcel lockers are found at the station.", "The wrong item on the agenda was discussed."],
    ),
    (
        "can I get my money back",
        "Refunds are possible within thirty days of purchase.",
        ["The money was found at the back of the drawer.", "I can get back by train."],
    ),
    (
        "stop getting your emails",
        "Unsubscribe with the link at the foot of our newsletter.",
        ["Emails are answered within a day.", "Get off at the next stop."],
    ),
    (
        "boss won't pay my overtime",
        "An employee can claim wages for extra hours; the union gives advice.",
        ["The match went into overtime.", "It will pay off in time."],
    ),
    (
        "landlord keeps the deposit",
        "A tenant may sue for the return of the security that was paid when the lease began.",
        ["The bank keeps the deposit box in its cellar.", "The landlord keeps bees."],
    ),
    (
        "someone used my card",
        "Have your bank block the account at once and report the fraud to the police.",
        ["Someone dealt the last card.", "Used cars are sold here."],
    ),
    (
        "put something aside for old age",
        "Paying into a pension early pays, because interest earns interest.",
        ["Put the old books aside.", "The age of the tree is not known."],
    ),
    (
        "going up the mountain makes me dizzy and sick",
        "Altitude illness passes when you descend; climb no more than 500 metres a day.",
        [
            "The mountain railway is going up every hour.",
            "Sick leave makes up a tenth of the hours.",
        ],
    ),
    (
        "scared of flying",
        "Slow breathing and a course with pilots ease aviophobia.",
        ["Flying squirrels glide from tree to tree.", "The birds were scared off."],
    ),
    (
        "place to sleep cheaply in Lisbon",
        "Hostels in the Portuguese capital have beds from 20 euros.",
        ["In Lisbon the restaurants are a good place to eat.", "Place the cloth in cold water."],
    ),
    (
        "animal with the longest neck",
        "Giraffes browse on leaves five metres above the ground.",
        ["Neck pain is longest in winter.", "An animal shelter takes in dogs."],
    ),
    (
        "biggest creature that ever lived",
        "No dinosaur is known to have outweighed the blue whale.",
        [
            "He lived in the biggest house of the village.",
            "The creature in the film lived in a lagoon.",
        ],
    ),
    (
        "why we have seasons",
        "The Earth's axis is tilted: each half leans towards the Sun for part of the year.",
        ["We have four seasons of the series.", "Season the meat before frying."],
    ),
    (
        "where rain comes from",
        "Vapour rises, cools and condenses to droplets that grow heavy and fall.",
        ["Rain fell from morning to evening.", "The name comes from Latin."],
    ),
    (
        "how plants make food",
        "Photosynthesis turns carbon dioxide and water into sugar with the energy of light.",
        ["Food plants make canned beans here.", "How to make food last."],
    ),
    (
        "how the heart beats by itself",
        "The sinus node sends an electric pulse through the muscle about seventy times a minute.",
        ["She lives by herself in the heart of the city.", "He beats eggs by hand."],
    ),
    (
        "illness that makes people forget",
        "Alzheimer's destroys memory bit by bit.",
        ["People forget umbrellas on buses.", "Illness makes up most absences."],
    ),
    (
        "trouble reading letters in the right order",
        "Dyslexia has nothing to do with intelligence.",
        ["Letters were sorted in the right order.", "Reading is on the right bank of the river."],
    ),
    (
        "can't tell red from green",
        "Colour blindness is usually inherited and affects one man in twelve.",
        ["The red train runs from Green Street.", "Tell us whether you prefer red or green."],
    ),
    (
        "Who looks after teeth?",
        "A dentist fills cavities and removes plaque.",
        ["The teeth of the saw need to be sharp.", "A shepherd looks after sheep."],
    ),
    (
        "person who designs buildings",
        "Architects draw up plans for houses and towers.",
        ["The person in the building opposite waved.", "She designs fabrics."],
    ),
    (
        "word for fear of spiders",
        "Arachnophobia is among the commonest phobias.",
        ["Spiders spin webs; the word spider comes from spinning.", "He had no word of fear."],
    ),
    (
        "French king who lost his head",
        "Louis XVI died on the guillotine in January 1793.",
        ["The king lost his horse.", "The head of the French bank resigned."],
    ),
    (
        "ship that hit an iceberg",
        "The Titanic went down on her maiden voyage in April 1912.",
        ["Iceberg lettuce is shipped in boxes.", "The ship hit the quay."],
    ),
    (
        "first people on the moon",
        "Armstrong and Aldrin landed the Eagle in July 1969.",
        ["People first came to the island on rafts.", "The new moon falls on a Sunday."],
    ),
    (
        "end of the wall in Berlin",
        "On 9 November 1989 the border between East and West was opened.",
        ["The wall at the end of the garden fell over.", "Berlin has 180 museums."],
    ),
    (
        "sport with a shuttlecock",
        "Badminton can be played by two or four.",
        ["Sport is good for you.", "A shuttle bus goes to the sport centre."],
    ),
    (
        "instrument with black and white keys",
        "The piano was first built by Cristofori around 1700.",
        ["Keys for the instrument case are black.", "A black and white film was shown."],
    ),
    (
        "drink made of fermented apples",
        "Cider is popular in Normandy and Somerset.",
        ["Apples are made into sauce.", "The drink is made of oranges."],
    ),
    (
        "sweet stuff that bees produce",
        "Honey keeps for years in a closed jar.",
        ["Bees have produced a stir.", "Sweet peas need support."],
    ),
    (
        "government gave people money for having kids",
        "A child benefit of 200 a month was introduced for every family.",
        ["People gave the government good marks.", "Kids love having money of their own."],
    ),
    (
        "shares lost value across the board",
        "Stock markets tumbled on Monday; every index closed lower.",
        ["The board shares this value.", "The board lost two members."],
    ),
    (
        "company earned less than last year",
        "Profit fell by 8% to 46 million.",
        ["The company was founded last year.", "The company has less than a hundred employees."],
    ),
    (
        "medicine for high blood pressure",
        "ACE inhibitors and diuretics are given against hypertension.",
        ["Blood pressure is measured on the upper arm.", "High prices put medicine out of reach."],
    ),
    (
        "treatment of overactive thyroid",
        "Hyperthyroidism responds to carbimazole, radioiodine or surgery.",
        ["The thyroid lies in front of the windpipe.", "The treatment of wood prevents rot."],
    ),
    (
        "kids with too much weight",
        "Childhood obesity has doubled since 1990.",
        ["Kids carry too much weight in their school bags.", "Weight lifting is not for kids."],
    ),
    (
        "does tobacco harm the unborn",
        "Mothers who smoked during pregnancy had lighter newborns.",
        ["Tobacco is grown in Cuba.", "Frost does harm to tobacco."],
    ),
    (
        "structures that shake in an earthquake",
        "Seismic response of multi-storey frames was computed for recorded ground motion.",
        ["Shake the bottle before use.", "Earthquake insurance has a complex structure."],
    ),
    (
        "metal gets weak when bent again and again",
        "Cyclic loading leads to fatigue failure of steel.",
        ["Metal bands play here again.", "A weak euro gets exports going."],
    ),
    (
        "cooling of fast aircraft skins",
        "Transpiration through a porous surface lowers wall temperatures in hypersonic flow.",
        [
            "Fast cooling of the skin helps after a burn.",
            "Aircraft seats are covered in animal skins.",
        ],
    ),
]

CARELESS = [
    (
        "whats teh captial of swizerland",
        "Bern is the seat of the Swiss government.",
        ["The captain of the Swiss team scored.", "Geneva is known for its watches."],
    ),
    (
        "symtoms of diabetis",
        "Great thirst, frequent urination and weight loss point to diabetes.",
        ["The symptoms of the flu come on suddenly.", "Diabetes is named after a Greek word."],
    ),
    (
        "how to restor a deletd file",
        "Deleted files can be restored from the bin with a right click.",
        ["How to restore old furniture.", "Delete the file if it is too large."],
    ),
    (
        "recieve refund how long",
        "It takes five working days until the amount is back in your account.",
        ["How long is the film?", "You'll receive the parcel tomorrow."],
    ),
    (
        "resturants open on sundey evning",
        "The bistro and the pizzeria serve dinner on Sunday evening.",
        ["Restaurants have to label allergens.", "Shops are open on Saturday."],
    ),
    (
        "wich vitamine is in oranges",
        "Citrus fruit is rich in vitamin C.",
        ["Oranges are grown in Valencia.", "Which witch is which?"],
    ),
    (
        "definately need visum for usa?",
        "Citizens of 41 countries may enter the United States with an ESTA and no visa.",
        ["You definitely need an umbrella in Scotland.", "A visa for India is issued online."],
    ),
    (
        "enviroment varible python set",
        "os.environ['NAME'] = 'value' sets an environment variable.",
        ["Pythons live in a tropical environment.", "A set in Python holds each value once."],
    ),
    (
        "pythn read jsn file",
        "json.load(handle) parses what an open file holds.",
        ["csv.reader reads a table row by row.", "A python file ends in .py."],
    ),
    (
        "docker contaner exits immediatly",
        "A container stops as soon as its main process ends.",
        ["The container ship left the dock immediately.", "docker ps lists what is running."],
    ),
    (
        "pregnent cheese safe",
        "Hard cheese may be eaten during pregnancy; avoid soft ones made of raw milk.",
        ["The cheese is kept in a safe.", "Pregnant women are offered a seat."],
    ),
    (
        "temprature to bake bred",
        "Put the loaf into the oven at 230 degrees.",
        ["The temperature outside fell.", "These sheep are bred in Wales."],
    ),
    (
        "when was the berlin airlift strat",
        "Planes began to supply West Berlin in June 1948.",
        ["The Berlin marathon starts at nine.", "The lift to the roof starts on the ground floor."],
    ),
    (
        "hieght of eifel tower",
        "With its aerials the Eiffel Tower measures 330 metres.",
        ["The Eiffel Tower was opened in 1889.", "The height of Big Ben is 96 metres."],
    ),
    (
        "hw mny bones adult humn",
        "A grown person has 206 bones.",
        ["Bones are made of calcium and collagen.", "Babies are born with more bones than adults."],
    ),
    (
        "neighbor loud musik after 10pm",
        "At night tenants must keep the noise down; complain to the landlord or the police.",
        ["The music school has ten rooms.", "Our neighbour plays in a loud band."],
    ),
    (
        "passport renewel documents neccessary",
        "To renew a passport, bring the old one, a photograph and proof of address.",
        ["A passport is valid for ten years.", "Documents are renewed in the archive."],
    ),
    (
        "alergic to nuts what not eat",
        "Marzipan, pesto and many cereals contain almonds, cashews or hazelnuts.",
        ["Nuts and bolts are in the second drawer.", "What squirrels eat in winter."],
    ),
    (
        "acomodation near conferance center",
        "Three hotels lie within walking distance of the congress hall.",
        ["The conference begins at nine.", "The centre of the city is old."],
    ),
    (
        "calender sync not workng on phone",
        "If appointments don't appear, remove the account in the settings and add it again.",
        ["A paper calendar hangs by the phone.", "Sync the sound with the picture."],
    ),
]

CASES = [*SAME_WORDS, *OTHER_WORDS, *CARELESS]
