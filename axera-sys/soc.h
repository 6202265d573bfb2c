/* SPDX-License-Identifier: MPL-2.0 */

/*
 * The part of Axera's C API for boards that we call: libax_sys (AX_SYS_*) and libax_engine
 * (AX_ENGINE_*).
 *
 * Written for this project; names, types and values are the vendor's, the words are ours. Building
 * needs neither the SDK nor its headers. With VLMCAPTION_SDK_TYPES defined the types are left out, so
 * that a file which includes the SDK's own headers first can be compiled with the prototypes below:
 * the compiler then says where the two differ (tests/layout.rs).
 *
 * Sizes assume LP64 (aarch64): the SDK exists for nothing else.
 */

#ifndef VLMCAPTION_AXERA_SOC_H
#define VLMCAPTION_AXERA_SOC_H

#include <stdint.h>

#ifndef VLMCAPTION_SDK_TYPES

typedef int32_t AX_S32;
typedef uint32_t AX_U32;
typedef uint64_t AX_U64;
typedef int8_t AX_S8;
typedef uint8_t AX_U8;

/** A loaded model, or what runs it. */
typedef void *AX_ENGINE_HANDLE;
typedef void *AX_ENGINE_CONTEXT;

/** Type of the elements of a tensor. Engines of SDKs before 2.18 say UNKNOWN for BFLOAT16. */
typedef enum {
  AX_ENGINE_DT_UNKNOWN = 0,
  AX_ENGINE_DT_UINT8 = 1,
  AX_ENGINE_DT_UINT16 = 2,
  AX_ENGINE_DT_FLOAT32 = 3,
  AX_ENGINE_DT_SINT16 = 4,
  AX_ENGINE_DT_SINT8 = 5,
  AX_ENGINE_DT_SINT32 = 6,
  AX_ENGINE_DT_UINT32 = 7,
  AX_ENGINE_DT_FLOAT64 = 8,
  AX_ENGINE_DT_BFLOAT16 = 9
} AX_ENGINE_DATA_TYPE_T;

typedef enum {
  AX_ENGINE_TENSOR_LAYOUT_UNKNOWN = 0,
  AX_ENGINE_TENSOR_LAYOUT_NHWC = 1,
  AX_ENGINE_TENSOR_LAYOUT_NCHW = 2
} AX_ENGINE_TENSOR_LAYOUT_T;

typedef enum {
  AX_ENGINE_MT_PHYSICAL = 0,
  AX_ENGINE_MT_VIRTUAL = 1,
  AX_ENGINE_MT_OCM = 2
} AX_ENGINE_MEMORY_TYPE_T;

/** How the cores are shared out. Models for all three cores run with DISABLE only. */
typedef enum {
  AX_ENGINE_VIRTUAL_NPU_DISABLE = 0,
  AX_ENGINE_VIRTUAL_NPU_STD = 1,
  AX_ENGINE_VIRTUAL_NPU_BIG_LITTLE = 2,
  AX_ENGINE_VIRTUAL_NPU_LITTLE_BIG = 3
} AX_ENGINE_NPU_MODE_T;

/** Cores a model was compiled for: TYPE0 one, TYPE1 two, TYPE2 three. */
typedef enum {
  AX_ENGINE_MODEL_TYPE0 = 0,
  AX_ENGINE_MODEL_TYPE1 = 1,
  AX_ENGINE_MODEL_TYPE2 = 2
} AX_ENGINE_MODEL_TYPE_T;

/** One input or output of a shape group; memory of the engine. */
typedef struct AX_ENGINE_IOMETA_T {
  char *pName;
  AX_S32 *pShape;
  AX_U8 nShapeSize;
  AX_ENGINE_TENSOR_LAYOUT_T eLayout;
  AX_ENGINE_MEMORY_TYPE_T eMemoryType;
  AX_ENGINE_DATA_TYPE_T eDataType;
  void *pExtraMeta;
  /** Bytes. */
  AX_U32 nSize;
  AX_U32 nQuantizationValue;
  AX_S32 *pStride;
  AX_U64 u64Reserved[9];
} AX_ENGINE_IOMETA_T;

/** All inputs and outputs of a shape group. */
typedef struct AX_ENGINE_IO_INFO_T {
  AX_ENGINE_IOMETA_T *pInputs;
  AX_U32 nInputSize;
  AX_ENGINE_IOMETA_T *pOutputs;
  AX_U32 nOutputSize;
  AX_U32 nMaxBatchSize;
  AX_S32 bDynamicBatchSize;
  AX_U64 u64Reserved[11];
} AX_ENGINE_IO_INFO_T;

/** Memory for one input or output. Everything that is not set must be zero. */
typedef struct AX_ENGINE_IO_BUFFER_T {
  AX_U64 phyAddr;
  void *pVirAddr;
  AX_U32 nSize;
  /** Null: dense. */
  AX_S32 *pStride;
  AX_U8 nStrideSize;
  AX_U64 u64Reserved[11];
} AX_ENGINE_IO_BUFFER_T;

/** Memory for a run. Everything that is not set must be zero. */
typedef struct AX_ENGINE_IO_T {
  AX_ENGINE_IO_BUFFER_T *pInputs;
  AX_U32 nInputSize;
  AX_ENGINE_IO_BUFFER_T *pOutputs;
  AX_U32 nOutputSize;
  /** 0: as compiled. */
  AX_U32 nBatchSize;
  void *pIoSetting;
  AX_U32 nParallelRun;
  AX_U64 u64Reserved[10];
} AX_ENGINE_IO_T;

typedef struct AX_ENGINE_NPU_ATTR_T {
  AX_ENGINE_NPU_MODE_T eHardMode;
  AX_U32 reserve[8];
} AX_ENGINE_NPU_ATTR_T;

/** What a model is called in /proc, among others. */
typedef struct AX_ENGINE_HANDLE_EXTRA_T {
  AX_U32 nNpuSet;
  AX_S8 *pName;
  AX_U32 reserve[8];
} AX_ENGINE_HANDLE_EXTRA_T;

typedef struct AX_ENGINE_CMM_INFO_T {
  AX_U32 nCMMSize;
} AX_ENGINE_CMM_INFO;

typedef struct AX_PARTITION_INFO_T {
  AX_U64 PhysAddr;
  AX_U32 SizeKB;
  AX_S8 Name[32];
} AX_PARTITION_INFO_T;

typedef struct AX_CMM_PARTITION_INFO_T {
  AX_U32 PartitionCnt;
  AX_PARTITION_INFO_T PartitionInfo[16];
} AX_CMM_PARTITION_INFO_T;

/** State of the memory that the NPU sees; sizes in KiB. */
typedef struct AX_CMM_STATUS_T {
  AX_U32 TotalSize;
  AX_U32 RemainSize;
  AX_U32 BlockCnt;
  AX_CMM_PARTITION_INFO_T Partition;
} AX_CMM_STATUS_T;

#endif /* VLMCAPTION_SDK_TYPES */

/* ---- libax_sys ---- */

AX_S32 AX_SYS_Init(void);
AX_S32 AX_SYS_Deinit(void);
AX_S32 AX_SYS_MemAllocCached(AX_U64 *phyaddr, void **pviraddr, AX_U32 size, AX_U32 align,
                             const AX_S8 *token);
AX_S32 AX_SYS_MemFree(AX_U64 phyaddr, void *pviraddr);
AX_S32 AX_SYS_MflushCache(AX_U64 phyaddr, void *pviraddr, AX_U32 size);
AX_S32 AX_SYS_MinvalidateCache(AX_U64 phyaddr, void *pviraddr, AX_U32 size);
AX_S32 AX_SYS_MemQueryStatus(AX_CMM_STATUS_T *pCmmStatus);

/* ---- libax_engine ---- */

const char *AX_ENGINE_GetVersion(void);
AX_S32 AX_ENGINE_Init(AX_ENGINE_NPU_ATTR_T *pNpuAttr);
AX_S32 AX_ENGINE_Deinit(void);
AX_S32 AX_ENGINE_GetVNPUAttr(AX_ENGINE_NPU_ATTR_T *pNpuAttr);
AX_S32 AX_ENGINE_GetModelType(const void *pData, AX_U32 nDataSize, AX_ENGINE_MODEL_TYPE_T *pModelType);
AX_S32 AX_ENGINE_CreateHandleV2(AX_ENGINE_HANDLE *pHandle, const void *pData, AX_U32 nDataSize,
                                AX_ENGINE_HANDLE_EXTRA_T *pExtraParam);
AX_S32 AX_ENGINE_DestroyHandle(AX_ENGINE_HANDLE nHandle);
AX_S32 AX_ENGINE_CreateContextV2(AX_ENGINE_HANDLE handle, AX_ENGINE_CONTEXT *pContext);
AX_S32 AX_ENGINE_GetIOInfo(AX_ENGINE_HANDLE nHandle, AX_ENGINE_IO_INFO_T **pIO);
AX_S32 AX_ENGINE_GetGroupIOInfoCount(AX_ENGINE_HANDLE nHandle, AX_U32 *pCount);
AX_S32 AX_ENGINE_GetGroupIOInfo(AX_ENGINE_HANDLE nHandle, AX_U32 nIndex, AX_ENGINE_IO_INFO_T **pIO);
AX_S32 AX_ENGINE_RunSyncV2(AX_ENGINE_HANDLE handle, AX_ENGINE_CONTEXT context, AX_ENGINE_IO_T *pIO);
AX_S32 AX_ENGINE_RunGroupIOSync(AX_ENGINE_HANDLE handle, AX_ENGINE_CONTEXT context, AX_U32 nIndex,
                                AX_ENGINE_IO_T *pIO);
AX_S32 AX_ENGINE_GetCMMUsage(AX_ENGINE_HANDLE nHandle, AX_ENGINE_CMM_INFO *pCMMInfo);
const char *AX_ENGINE_GetModelToolsVersion(AX_ENGINE_HANDLE nHandle);
/* Not called: chips of other families have the one and lack the other. */
AX_S32 AX_ENGINE_GetTotalOps(void);
AX_S32 AX_ENGINE_SetAffinity(AX_ENGINE_HANDLE nHandle, AX_U32 nAffinity);

#endif /* VLMCAPTION_AXERA_SOC_H */
