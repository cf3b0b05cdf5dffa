/* Stands in for NVIDIA's driver: says which cards there are, and can do nothing with them.
 *
 * Built twice, as libnvidia-ml.so.1 (the library that vLLM asks for cards) and as libcuda.so.1
 * (which its compiled code is linked to, and which says that there is no device). The cards come
 * from the environment: GPU_CHECK_NAME, _UUID, _CAPABILITY (such as 86 for 8.6), _MEMORY (bytes;
 * empty where a card shares the machine's, as NVML then says that it does not know), _COUNT.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

static const char *told(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static unsigned count(void) { return (unsigned)atoi(told("GPU_CHECK_COUNT")); }

/* A handle is the number of a card plus one: zero would be a null pointer. */
static size_t number(void *card) { return (size_t)card - 1; }

int nvmlInit_v2(void) { return OK; }
int nvmlInit(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_SUPPORTED ? "Not Supported" : "Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  snprintf(text, size, "580.82.07");
  return OK;
}

int nvmlDeviceGetCount_v2(unsigned *cards) {
  *cards = count();
  return OK;
}
int nvmlDeviceGetCount(unsigned *cards) { return nvmlDeviceGetCount_v2(cards); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card) {
  if (index >= count()) return INVALID;
  *card = (void *)(size_t)(index + 1);
  return OK;
}
int nvmlDeviceGetHandleByIndex(unsigned index, void **card) {
  return nvmlDeviceGetHandleByIndex_v2(index, card);
}

/* The UUID ends in the number of the card. */
int nvmlDeviceGetUUID(void *card, char *text, unsigned size) {
  snprintf(text, size, "%s%zu", told("GPU_CHECK_UUID"), number(card));
  return OK;
}

int nvmlDeviceGetHandleByUUID(const char *wanted, void **card) {
  char text[96];
  for (unsigned index = 0; index < count(); index++) {
    nvmlDeviceGetHandleByIndex_v2(index, card);
    nvmlDeviceGetUUID(*card, text, sizeof text);
    if (!strcmp(text, wanted)) return OK;
  }
  return NOT_FOUND;
}

int nvmlDeviceGetIndex(void *card, unsigned *index) {
  *index = (unsigned)number(card);
  return OK;
}

int nvmlDeviceGetName(void *card, char *text, unsigned size) {
  snprintf(text, size, "%s", told("GPU_CHECK_NAME"));
  return OK;
}

int nvmlDeviceGetCudaComputeCapability(void *card, int *major, int *minor) {
  int both = atoi(told("GPU_CHECK_CAPABILITY"));
  *major = both / 10;
  *minor = both % 10;
  return OK;
}

int nvmlDeviceGetMemoryInfo(void *card, unsigned long long *total_free_used) {
  if (!*told("GPU_CHECK_MEMORY")) return NOT_SUPPORTED;
  total_free_used[0] = total_free_used[1] = strtoull(told("GPU_CHECK_MEMORY"), NULL, 10);
  total_free_used[2] = 0;
  return OK;
}

/* Cards that lie side by side, without a link between them. */
int nvmlDeviceGetP2PStatus(void *one, void *other, int what, int *status) {
  *status = 1;
  return OK;
}

/* From here on CUDA's own driver: the functions that vLLM's and PyTorch's code is linked to, and
 * each of which says that there is no device. */
enum { NO_DEVICE = 100 };
#define SAYS_NO_DEVICE(function) \
  int function(void) { return NO_DEVICE; }

SAYS_NO_DEVICE(cuInit)
SAYS_NO_DEVICE(cuCtxGetCurrent)
SAYS_NO_DEVICE(cuCtxSetCurrent)
SAYS_NO_DEVICE(cuDeviceGetAttribute)
SAYS_NO_DEVICE(cuDevicePrimaryCtxRetain)
SAYS_NO_DEVICE(cuGetErrorString)
SAYS_NO_DEVICE(cuGetProcAddress_v2)
SAYS_NO_DEVICE(cuMemAddressFree)
SAYS_NO_DEVICE(cuMemAddressReserve)
SAYS_NO_DEVICE(cuMemCreate)
SAYS_NO_DEVICE(cuMemGetAllocationGranularity)
SAYS_NO_DEVICE(cuMemMap)
SAYS_NO_DEVICE(cuMemRelease)
SAYS_NO_DEVICE(cuMemSetAccess)
SAYS_NO_DEVICE(cuMemUnmap)
SAYS_NO_DEVICE(cuPointerGetAttribute)
SAYS_NO_DEVICE(cuTensorMapEncodeTiled)
