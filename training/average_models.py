"""Write the mean of two models' weights as a model folder.

    python training/average_models.py FIRST SECOND TARGET --share 0.5

Both are folders with one `.safetensors` file and the same names in it, SECOND one that the training
wrote. `--share` is that of the second model. A model that was trained on from another and the mean
of the two often differ little on the new texts, while the mean forgets less of the old ones.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def average(first: Path, second: Path, target: Path, share: float) -> None:
    """Write `(1 - share) * first + share * second` in float32, with the files of `second` beside.

    Raises:
        ValueError: The two have not the same weights.
    """
    one = load_file(next(first.glob("*.safetensors")))
    other = load_file(second / "model.safetensors")
    if one.keys() != other.keys():
        raise ValueError(f"Only one of the two has {sorted(one.keys() ^ other.keys())[:3]}.")
    shutil.copytree(second, target, dirs_exist_ok=True)
    mean = {name: one[name].float().lerp(other[name].float(), share) for name in other}
    save_file(mean, target / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Read the command line and write the mean."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second (default: 0.5)")
    options = parser.parse_args()
    average(options.first, options.second, options.target, options.share)


if __name__ == "__main__":
    main()
