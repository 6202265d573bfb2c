/* SPDX-License-Identifier: MPL-2.0 */

/*
 * The part of Axera's C API for cards (AXCL) that we call: libaxcl_rt.
 *
 * Written for this project; names, types and values are the vendor's, the words are ours. Building
 * needs neither the package nor its headers. With VLMCAPTION_SDK_TYPES defined the types are left
 * out, so that a file which includes the package's own headers first can be compiled with the
 * prototypes below: the compiler then says where the two differ (tests/layout.rs).
 *
 * Its numbers are not those of soc.h: BF16 is 14 here and 9 there.
 */

#ifndef VLMCAPTION_AXERA_CARD_H
#define VLMCAPTION_AXERA_CARD_H

#include <stddef.h>
#include <stdint.h>

#ifndef VLMCAPTION_SDK_TYPES

typedef int32_t axclError;
typedef void *axclrtContext;
typedef void *axclrtEngineIOInfo;
typedef void *axclrtEngineIO;

/** The cards. Ids are the numbers in `devices`: of PCIe buses, not counted from 0. */
typedef struct axclrtDeviceList {
  uint32_t num;
  int32_t devices[256];
} axclrtDeviceList;

typedef struct axclrtDeviceProperties {
  char swVersion[64];
  uint64_t uid;
  uint32_t pciDomain;
  uint32_t pciBusID;
  uint32_t pciDeviceID;
  /** Degrees Celsius; thousandths with some releases. */
  int32_t temperature;
  /** KiB. */
  uint32_t totalMemSize;
  uint32_t freeMemSize;
  uint32_t totalCmmSize;
  uint32_t freeCmmSize;
  /** Percent. */
  uint32_t cpuLoading;
  uint32_t npuLoading;
  uint32_t reserved[32];
} axclrtDeviceProperties;

typedef struct axclrtEngineIODims {
  int32_t dimCount;
  int32_t dims[32];
} axclrtEngineIODims;

typedef enum axclrtMemcpyKind {
  AXCL_MEMCPY_HOST_TO_HOST = 0,
  AXCL_MEMCPY_HOST_TO_DEVICE = 1,
  AXCL_MEMCPY_DEVICE_TO_HOST = 2,
  AXCL_MEMCPY_DEVICE_TO_DEVICE = 3
} axclrtMemcpyKind;

typedef enum axclrtMemMallocPolicy {
  AXCL_MEM_MALLOC_HUGE_FIRST = 0,
  AXCL_MEM_MALLOC_HUGE_ONLY = 1,
  AXCL_MEM_MALLOC_NORMAL_ONLY = 2
} axclrtMemMallocPolicy;

/** How the cores are shared out. Models for all three cores run with DISABLE only. */
typedef enum axclrtEngineVNpuKind {
  AXCL_VNPU_DISABLE = 0,
  AXCL_VNPU_ENABLE = 1,
  AXCL_VNPU_BIG_LITTLE = 2,
  AXCL_VNPU_LITTLE_BIG = 3
} axclrtEngineVNpuKind;

/** Cores a model was compiled for: 0 one, 1 two, 2 three. */
typedef enum axclrtEngineModelKind {
  AXCL_MODEL_TYPE_1CORE = 0,
  AXCL_MODEL_TYPE_2CORE = 1,
  AXCL_MODEL_TYPE_3CORE = 2
} axclrtEngineModelKind;

typedef enum axclrtEngineDataType {
  AXCL_DATA_TYPE_NONE = 0,
  AXCL_DATA_TYPE_INT4 = 1,
  AXCL_DATA_TYPE_UINT4 = 2,
  AXCL_DATA_TYPE_INT8 = 3,
  AXCL_DATA_TYPE_UINT8 = 4,
  AXCL_DATA_TYPE_INT16 = 5,
  AXCL_DATA_TYPE_UINT16 = 6,
  AXCL_DATA_TYPE_INT32 = 7,
  AXCL_DATA_TYPE_UINT32 = 8,
  AXCL_DATA_TYPE_INT64 = 9,
  AXCL_DATA_TYPE_UINT64 = 10,
  AXCL_DATA_TYPE_FP4 = 11,
  AXCL_DATA_TYPE_FP8 = 12,
  AXCL_DATA_TYPE_FP16 = 13,
  AXCL_DATA_TYPE_BF16 = 14,
  AXCL_DATA_TYPE_FP32 = 15,
  AXCL_DATA_TYPE_FP64 = 16
} axclrtEngineDataType;

#endif /* VLMCAPTION_SDK_TYPES */

/* ---- the process and its device ---- */

axclError axclInit(const char *config);
axclError axclFinalize(void);
axclError axclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch);
axclError axclrtGetDeviceList(axclrtDeviceList *deviceList);
axclError axclrtGetDeviceProperties(int32_t deviceId, axclrtDeviceProperties *properties);
axclError axclrtSetDevice(int32_t deviceId);
axclError axclrtResetDevice(int32_t deviceId);
axclError axclrtCreateContext(axclrtContext *context, int32_t deviceId);
axclError axclrtDestroyContext(axclrtContext context);
axclError axclrtSetCurrentContext(axclrtContext context);

/* ---- memory ---- */

axclError axclrtMalloc(void **devPtr, size_t size, axclrtMemMallocPolicy policy);
axclError axclrtFree(void *devPtr);
axclError axclrtMemset(void *devPtr, uint8_t value, size_t count);
axclError axclrtMemcpy(void *dstPtr, const void *srcPtr, size_t count, axclrtMemcpyKind kind);

/* ---- engine ---- */

axclError axclrtEngineInit(axclrtEngineVNpuKind npuKind);
axclError axclrtEngineGetVNpuKind(axclrtEngineVNpuKind *npuKind);
axclError axclrtEngineFinalize(void);
axclError axclrtEngineLoadFromFile(const char *modelPath, uint64_t *modelId);
axclError axclrtEngineUnload(uint64_t modelId);
axclError axclrtEngineGetModelType(const char *modelPath, axclrtEngineModelKind *modelType);
axclError axclrtEngineGetUsage(const char *modelPath, int64_t *sysSize, int64_t *cmmSize);
const char *axclrtEngineGetModelCompilerVersion(uint64_t modelId);
axclError axclrtEngineCreateContext(uint64_t modelId, uint64_t *contextId);
axclError axclrtEngineGetIOInfo(uint64_t modelId, axclrtEngineIOInfo *ioInfo);
axclError axclrtEngineDestroyIOInfo(axclrtEngineIOInfo ioInfo);
axclError axclrtEngineGetShapeGroupsCount(axclrtEngineIOInfo ioInfo, int32_t *count);
uint32_t axclrtEngineGetNumInputs(axclrtEngineIOInfo ioInfo);
uint32_t axclrtEngineGetNumOutputs(axclrtEngineIOInfo ioInfo);
uint64_t axclrtEngineGetInputSizeByIndex(axclrtEngineIOInfo ioInfo, uint32_t group, uint32_t index);
uint64_t axclrtEngineGetOutputSizeByIndex(axclrtEngineIOInfo ioInfo, uint32_t group, uint32_t index);
const char *axclrtEngineGetInputNameByIndex(axclrtEngineIOInfo ioInfo, uint32_t index);
const char *axclrtEngineGetOutputNameByIndex(axclrtEngineIOInfo ioInfo, uint32_t index);
axclError axclrtEngineGetInputDims(axclrtEngineIOInfo ioInfo, uint32_t group, uint32_t index,
                                   axclrtEngineIODims *dims);
axclError axclrtEngineGetOutputDims(axclrtEngineIOInfo ioInfo, uint32_t group, uint32_t index,
                                    axclrtEngineIODims *dims);
axclError axclrtEngineGetInputDataType(axclrtEngineIOInfo ioInfo, uint32_t index,
                                       axclrtEngineDataType *type);
axclError axclrtEngineGetOutputDataType(axclrtEngineIOInfo ioInfo, uint32_t index,
                                        axclrtEngineDataType *type);
axclError axclrtEngineCreateIO(axclrtEngineIOInfo ioInfo, axclrtEngineIO *io);
axclError axclrtEngineDestroyIO(axclrtEngineIO io);
axclError axclrtEngineSetInputBufferByIndex(axclrtEngineIO io, uint32_t index, const void *dataBuffer,
                                            uint64_t size);
axclError axclrtEngineSetOutputBufferByIndex(axclrtEngineIO io, uint32_t index, const void *dataBuffer,
                                             uint64_t size);
axclError axclrtEngineExecute(uint64_t modelId, uint64_t contextId, uint32_t group, axclrtEngineIO io);

#endif /* VLMCAPTION_AXERA_CARD_H */
