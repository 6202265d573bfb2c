/* SPDX-License-Identifier: MPL-2.0 */

/*
 * The part of Sophgo's C API that we call: libbmlib (bm_*) and libbmrt (bmrt_*).
 *
 * Written for this project; names, types and values are the vendor's, the words are ours. Building
 * needs neither the SDK nor its headers. With VLMCAPTION_SDK_TYPES defined the types are left out, so
 * that a file which includes the SDK's own headers first can be compiled with the prototypes below:
 * the compiler then says where the two differ (tests/layout.rs).
 *
 * Sizes assume LP64 (x86-64, aarch64): the SDK exists for nothing else on Linux.
 */

#ifndef VLMCAPTION_SOPHGO_WRAPPER_H
#define VLMCAPTION_SOPHGO_WRAPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef VLMCAPTION_SDK_TYPES

/* ---- libbmlib: types ---- */

/**
 * Result of most bm_* calls. BM_ERR_DEVNOTREADY also stands for a null handle, BM_NOT_SUPPORTED for a
 * call that means nothing on this system: most monitoring on a SoC or the emulator.
 */
typedef enum {
  BM_SUCCESS = 0,
  BM_ERR_DEVNOTREADY = 1,
  BM_ERR_FAILURE = 2,
  BM_ERR_TIMEOUT = 3,
  BM_ERR_PARAM = 4,
  BM_ERR_NOMEM = 5,
  BM_ERR_DATA = 6,
  BM_ERR_BUSY = 7,
  BM_ERR_NOFEATURE = 8,
  BM_NOT_SUPPORTED = 9
} bm_status_t;

struct bm_context;
/** An opened device. */
typedef struct bm_context *bm_handle_t;

/** Address of device memory, as bm_mem_desc holds it. */
struct bm_mem_device {
  unsigned long device_addr;
  unsigned int reserved;
  int dmabuf_fd;
};

/** The vendor's is a union with a host pointer of the same size, which we never use. */
struct bm_mem_place {
  struct bm_mem_device device;
};

/** The vendor's has bit fields over the same 32 bits: 0..=2 the memory type (0 = device), 3..=5 the heap. */
typedef struct bm_mem_flags {
  unsigned int rawflags;
} bm_mem_flags_t;

/** A range of device memory; passed by value. Its 32-bit size keeps it below 4 GiB. */
typedef struct bm_mem_desc {
  struct bm_mem_place u;
  bm_mem_flags_t flags;
  /** Bytes. */
  unsigned int size;
} bm_mem_desc_t;

typedef struct bm_mem_desc bm_device_mem_t;

/** What a device is and how it is attached. */
struct bm_misc_info {
  /** 0 = PCIe card, 1 = SoC. */
  int pcie_soc_mode;
  int ddr_ecc_enable;
  long long ddr0a_size;
  long long ddr0b_size;
  long long ddr1_size;
  long long ddr2_size;
  unsigned int chipid;
  unsigned long chipid_bit_mask;
  /** Major << 16 | minor << 8 | patch. */
  unsigned int driver_version;
  int domain_bdf;
  int board_version;
  int a53_enable;
  int dyn_enable;
};

/** One memory heap, in MiB. */
struct bm_heap_stat {
  unsigned int mem_total;
  unsigned int mem_avail;
  unsigned int mem_used;
};

/** State of a device. */
typedef struct bm_dev_stat {
  /** MiB. */
  int mem_total;
  /** MiB. */
  int mem_used;
  /** Percent. */
  int tpu_util;
  /** Valid entries of heap_stat. */
  int heap_num;
  struct bm_heap_stat heap_stat[4];
} bm_dev_stat_t;

/** One memory heap, in bytes. */
typedef struct bm_heap_stat_byte {
  unsigned int heap_id;
  unsigned long long mem_total;
  unsigned long long mem_avail;
  unsigned long long mem_used;
  unsigned long long mem_start_addr;
} bm_heap_stat_byte_t;

/* ---- libbmrt: types ---- */

/** Element type of a tensor. */
typedef enum bm_data_type_e {
  BM_FLOAT32 = 0,
  BM_FLOAT16 = 1,
  BM_INT8 = 2,
  BM_UINT8 = 3,
  BM_INT16 = 4,
  BM_UINT16 = 5,
  BM_INT32 = 6,
  BM_UINT32 = 7,
  BM_BFLOAT16 = 8,
  BM_INT4 = 9,
  BM_UINT4 = 10
} bm_data_type_t;

/** Layout of a batch in memory; 1N, densely packed, is the only one in use on our chips. */
typedef enum bm_store_mode_e {
  BM_STORE_1N = 0,
  BM_STORE_2N = 1,
  BM_STORE_4N = 2
} bm_store_mode_t;

/**
 * Bits for bmrt_set_flags. With SHARE_MEM all nets of one runtime share one region for intermediate
 * results; CHECK_MEM checks the hash of the weights in device memory.
 */
typedef enum bm_runtime_flag_e {
  BM_RUNTIME_AUTO = 0,
  BM_RUNTIME_SHARE_MEM = 1,
  BM_RUNTIME_CHECK_MEM = 2
} bm_runtime_flag_t;

#define BM_MAX_DIMS_NUM 8

/** Dimensions of a tensor, slowest first. */
typedef struct bm_shape_s {
  int num_dims;
  int dims[BM_MAX_DIMS_NUM];
} bm_shape_t;

/** A tensor in device memory. */
typedef struct bm_tensor_s {
  bm_data_type_t dtype;
  bm_shape_t shape;
  bm_device_mem_t device_mem;
  bm_store_mode_t st_mode;
} bm_tensor_t;

/** One compiled shape of a net: arrays of input_num and output_num entries. */
typedef struct bm_stage_info_s {
  bm_shape_t *input_shapes;
  bm_shape_t *output_shapes;
  bm_device_mem_t *input_mems;
  bm_device_mem_t *output_mems;
} bm_stage_info_t;

/** A net of a bmodel: arrays of input_num, output_num and stage_num entries. */
typedef struct bm_net_info_s {
  const char *name;
  /** A bool of C++, any byte but 0 for true: in a bool of Rust another byte than 0 and 1 is undefined. */
  uint8_t is_dynamic;
  int input_num;
  const char **input_names;
  bm_data_type_t *input_dtypes;
  float *input_scales;
  int output_num;
  const char **output_names;
  bm_data_type_t *output_dtypes;
  float *output_scales;
  int stage_num;
  bm_stage_info_t *stages;
  size_t *max_input_bytes;
  size_t *max_output_bytes;
  int *input_zero_point;
  int *output_zero_point;
  /** Device of each input, for nets cut over several devices. */
  int *input_loc_devices;
  int *output_loc_devices;
  /** TPU cores that one launch takes. */
  int core_num;
  /** 0 = inputs and outputs lie in the shared region, 1 = they have their own and keep their contents. */
  int32_t addr_mode;
} bm_net_info_t;

#endif /* VLMCAPTION_SDK_TYPES */

/* ---- libbmlib: device ---- */

bm_status_t bm_dev_getcount(int *count);
bm_status_t bm_dev_request(bm_handle_t *handle, int devid);
void bm_dev_free(bm_handle_t handle);

/* ---- libbmlib: memory ---- */

bm_status_t bm_malloc_device_byte(bm_handle_t handle, bm_device_mem_t *pmem, unsigned int size);
void bm_free_device(bm_handle_t handle, bm_device_mem_t mem);
bm_status_t bm_memcpy_s2d_partial_offset(bm_handle_t handle, bm_device_mem_t dst, void *src,
                                         unsigned int size, unsigned int offset);
bm_status_t bm_memcpy_d2s_partial_offset(bm_handle_t handle, void *dst, bm_device_mem_t src,
                                         unsigned int size, unsigned int offset);
bm_status_t bm_memcpy_d2d_byte(bm_handle_t handle, bm_device_mem_t dst, size_t dst_offset,
                               bm_device_mem_t src, size_t src_offset, size_t size);
bm_status_t bm_memset_device_ext(bm_handle_t handle, void *value, int mode, bm_device_mem_t mem);

/* ---- libbmlib: waiting ---- */

bm_status_t bm_thread_sync(bm_handle_t handle);
bm_status_t bm_thread_sync_from_core(bm_handle_t handle, int core_id);
bm_status_t bm_handle_sync(bm_handle_t handle);
bm_status_t bm_set_sync_timeout(bm_handle_t handle, int timeout);

/* ---- libbmlib: what the device is and how it fares ---- */

bm_status_t bm_get_chipid(bm_handle_t handle, unsigned int *p_chipid);
bm_status_t bm_get_misc_info(bm_handle_t handle, struct bm_misc_info *pmisc_info);
bm_status_t bm_get_tpu_scalar_num(bm_handle_t handle, unsigned int *core_num);
bm_status_t bm_get_stat(bm_handle_t handle, bm_dev_stat_t *stat);
bm_status_t bm_get_gmem_total_heap_num(bm_handle_t handle, unsigned int *heap_num);
bm_status_t bm_get_gmem_heap_stat_byte_by_id(bm_handle_t handle, bm_heap_stat_byte_t *pheap_byte,
                                             unsigned int heap_id);
bm_status_t bm_get_chip_temp(bm_handle_t handle, unsigned int *chip_temp);
bm_status_t bm_get_tpu_power(bm_handle_t handle, float *tpu_power);
bm_status_t bm_get_status(bm_handle_t handle, int *status);

/* ---- libbmlib: itself ---- */

/* 16 errors, 24 warnings, 32 information, -8 nothing. */
void bmlib_log_set_level(int level);
/* Not in the SDK's headers; both libraries have exported theirs for years. */
const char *libbmlib_version(void);

/* ---- libbmrt ---- */

void *bmrt_create(bm_handle_t bm_handle);
void bmrt_destroy(void *p_bmrt);
void bmrt_set_flags(void *p_bmrt, uint32_t flags);
uint32_t bmrt_get_flags(void *p_bmrt);
bool bmrt_load_bmodel(void *p_bmrt, const char *bmodel_path);
bool bmrt_load_bmodel_data(void *p_bmrt, const void *bmodel_data, size_t size);
int bmrt_get_network_number(void *p_bmrt);
void bmrt_get_network_names(void *p_bmrt, const char ***network_names);
const bm_net_info_t *bmrt_get_network_info(void *p_bmrt, const char *net_name);
bool bmrt_launch_tensor_ex(void *p_bmrt, const char *net_name, const bm_tensor_t input_tensors[],
                           int input_num, bm_tensor_t output_tensors[], int output_num,
                           bool user_mem, bool user_stmode);
const char *libbmrt_version(void);

#endif /* VLMCAPTION_SOPHGO_WRAPPER_H */
