/* SPDX-License-Identifier: MPL-2.0 */

/*
 * Stands in for the SDK: libbmlib with FAKE_BMLIB defined, libbmrt with FAKE_BMRT.
 *
 * Device memory is host memory. What comes by value is looked at closely, so that a difference in
 * calling convention or layout between Rust and C shows. FAKE_VERSION sets the version, FAKE_CORES
 * the cores of a net; WITHOUT_COPY and WITHOUT_LAUNCH leave a needed function out, WITHOUT_WAITING
 * those for waiting that old SDKs lack.
 *
 * A launch counts as running until it is waited for. fake_calls() tells what was called since the
 * call before; fake_hang(1) lets every wait time out, and fake_refuse(1) refuses launches.
 * Ended with a word on the standard error: what is freed under a launch, and a wait for a core that
 * the calling thread has not launched on.
 */

#include "wrapper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FAKE_VERSION
#define FAKE_VERSION "1.0.0"
#endif

#ifndef FAKE_CORES
#define FAKE_CORES 2
#endif

#define FLAGS 0x10u
#define FD 42
#define MOST (1u << 20)

enum { MAX_CORES = 8 };

void fake_note(const char *call, int number);
void fake_launched(int cores);
void fake_idle(const char *call);

#ifdef FAKE_BMLIB

struct bm_context {
  int timeout_ms;
};

static char calls[4096], told[4096];
static bool hangs;
/* Launches that nobody has waited for, and those of this thread. */
static int running[MAX_CORES];
static _Thread_local int mine[MAX_CORES];
static _Thread_local bool launched[MAX_CORES];

void fake_note(const char *call, int number) {
  size_t at = strlen(calls);
  const char *space = at == 0 ? "" : " ";
  if (number < 0) snprintf(calls + at, sizeof calls - at, "%s%s", space, call);
  else snprintf(calls + at, sizeof calls - at, "%s%s:%d", space, call, number);
}

const char *fake_calls(void) {
  memcpy(told, calls, sizeof calls);
  calls[0] = 0;
  return told;
}

void fake_hang(int hang) { hangs = hang; }

void fake_launched(int cores) {
  for (int core = 0; core < cores; core++) {
    running[core]++;
    mine[core]++;
    launched[core] = true;
  }
}

void fake_idle(const char *call) {
  for (int core = 0; core < MAX_CORES; core++) {
    if (running[core] == 0) continue;
    fprintf(stderr, "fake: %s under a launch\n", call);
    abort();
  }
}

static bm_status_t waited(int core) {
  if (hangs) return BM_ERR_TIMEOUT;
  running[core] -= mine[core];
  mine[core] = 0;
  return BM_SUCCESS;
}

static bool damaged(bm_device_mem_t mem) {
  return mem.u.device.device_addr == 0 || mem.u.device.reserved != 7 ||
         mem.u.device.dmabuf_fd != FD || mem.flags.rawflags != FLAGS || mem.size > MOST;
}

static bool outside(bm_device_mem_t mem, size_t size, size_t offset) {
  return damaged(mem) || offset + size > mem.size;
}

static char *bytes(bm_device_mem_t mem, size_t offset) {
  return (char *)mem.u.device.device_addr + offset;
}

bm_status_t bm_dev_getcount(int *count) {
  *count = 2;
  return BM_SUCCESS;
}

bm_status_t bm_dev_request(bm_handle_t *handle, int devid) {
  if (devid < 0 || devid >= 2) return BM_ERR_DEVNOTREADY;
  *handle = calloc(1, sizeof(struct bm_context));
  return BM_SUCCESS;
}

void bm_dev_free(bm_handle_t handle) {
  fake_note("dev_free", -1);
  fake_idle("bm_dev_free");
  free(handle);
}

bm_status_t bm_malloc_device_byte(bm_handle_t handle, bm_device_mem_t *pmem, unsigned int size) {
  if (handle == NULL) return BM_ERR_DEVNOTREADY;
  if (size > MOST) return BM_ERR_NOMEM;
  memset(pmem, 0, sizeof *pmem);
  pmem->u.device.device_addr = (unsigned long)malloc(size);
  pmem->u.device.reserved = 7;
  pmem->u.device.dmabuf_fd = FD;
  pmem->flags.rawflags = FLAGS;
  pmem->size = size;
  return BM_SUCCESS;
}

void bm_free_device(bm_handle_t handle, bm_device_mem_t mem) {
  if (handle == NULL || damaged(mem)) abort();
  fake_note("free", -1);
  fake_idle("bm_free_device");
  free(bytes(mem, 0));
}

bm_status_t bm_memcpy_s2d_partial_offset(bm_handle_t handle, bm_device_mem_t dst, void *src,
                                         unsigned int size, unsigned int offset) {
  if (handle == NULL || outside(dst, size, offset)) return BM_ERR_PARAM;
  memcpy(bytes(dst, offset), src, size);
  return BM_SUCCESS;
}

bm_status_t bm_memcpy_d2s_partial_offset(bm_handle_t handle, void *dst, bm_device_mem_t src,
                                         unsigned int size, unsigned int offset) {
  if (handle == NULL || outside(src, size, offset)) return BM_ERR_PARAM;
  memcpy(dst, bytes(src, offset), size);
  return BM_SUCCESS;
}

#ifndef WITHOUT_COPY
bm_status_t bm_memcpy_d2d_byte(bm_handle_t handle, bm_device_mem_t dst, size_t dst_offset,
                               bm_device_mem_t src, size_t src_offset, size_t size) {
  if (handle == NULL || outside(dst, size, dst_offset) || outside(src, size, src_offset))
    return BM_ERR_PARAM;
  memcpy(bytes(dst, dst_offset), bytes(src, src_offset), size);
  return BM_SUCCESS;
}
#endif

bm_status_t bm_memset_device_ext(bm_handle_t handle, void *value, int mode, bm_device_mem_t mem) {
  if (handle == NULL || damaged(mem) || mem.size % mode != 0) return BM_ERR_PARAM;
  for (unsigned int i = 0; i < mem.size; i++) bytes(mem, 0)[i] = ((char *)value)[i % mode];
  return BM_SUCCESS;
}

bm_status_t bm_thread_sync(bm_handle_t handle) {
  fake_note("thread_sync", -1);
  return handle->timeout_ms == 1 ? BM_ERR_TIMEOUT : waited(0);
}

#ifndef WITHOUT_WAITING
bm_status_t bm_thread_sync_from_core(bm_handle_t handle, int core_id) {
  (void)handle;
  fake_note("core_sync", core_id);
  if (core_id < 0 || core_id >= MAX_CORES || !launched[core_id]) {
    fprintf(stderr, "fake: a wait for core %d, which was not launched on\n", core_id);
    abort();
  }
  return waited(core_id);
}

bm_status_t bm_handle_sync(bm_handle_t handle) {
  (void)handle;
  fake_note("handle_sync", -1);
  if (hangs) return BM_ERR_TIMEOUT;
  memset(running, 0, sizeof running);
  memset(mine, 0, sizeof mine);
  return BM_SUCCESS;
}
#endif

bm_status_t bm_set_sync_timeout(bm_handle_t handle, int timeout) {
  handle->timeout_ms = timeout;
  return BM_SUCCESS;
}

bm_status_t bm_get_chipid(bm_handle_t handle, unsigned int *p_chipid) {
  *p_chipid = 0x1686a200;
  return handle == NULL ? BM_ERR_PARAM : BM_SUCCESS;
}

bm_status_t bm_get_misc_info(bm_handle_t handle, struct bm_misc_info *info) {
  *info = (struct bm_misc_info){1, 2, 3, 4, 5, 6, 7, 8, 0x000501, 9, 10, 11, 12};
  return handle == NULL ? BM_ERR_PARAM : BM_SUCCESS;
}

bm_status_t bm_get_stat(bm_handle_t handle, bm_dev_stat_t *stat) {
  *stat = (bm_dev_stat_t){16384, 100, 5, 2, {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}}};
  return handle == NULL ? BM_ERR_PARAM : BM_SUCCESS;
}

bm_status_t bm_get_gmem_heap_stat_byte_by_id(bm_handle_t handle, bm_heap_stat_byte_t *heap,
                                             unsigned int heap_id) {
  *heap = (bm_heap_stat_byte_t){heap_id, 1ull << 33, 1ull << 32, 3, 4};
  return handle == NULL ? BM_ERR_PARAM : BM_SUCCESS;
}

bm_status_t bm_get_chip_temp(bm_handle_t handle, unsigned int *chip_temp) {
  (void)handle, (void)chip_temp;
  return BM_NOT_SUPPORTED;
}

bm_status_t bm_get_tpu_power(bm_handle_t handle, float *tpu_power) {
  *tpu_power = 12.5f;
  return handle == NULL ? BM_ERR_PARAM : BM_SUCCESS;
}

const char *libbmlib_version(void) { return "libbmlib_version:" FAKE_VERSION ", branch:none, "; }

#endif /* FAKE_BMLIB */

#ifdef FAKE_BMRT

static bm_shape_t shape = {2, {1, 8}};
static bm_device_mem_t place = {.size = 32};
static bm_data_type_t int32 = BM_INT32;
static size_t most = 32;
static const char *names[] = {"block_0", "lm_head"};
static bm_stage_info_t stage = {&shape, &shape, &place, &place};
static bool refuses;

void fake_refuse(int refuse) { refuses = refuse; }

static bm_net_info_t net = {
    .name = "block_0",
    /* True to C++, which may have left any byte here. */
    .is_dynamic = 0x40,
    .input_num = 1,
    .input_names = names,
    .input_dtypes = &int32,
    .output_num = 1,
    .output_names = names + 1,
    .output_dtypes = &int32,
    .stage_num = 1,
    .stages = &stage,
    .max_input_bytes = &most,
    .max_output_bytes = &most,
    .core_num = FAKE_CORES,
    .addr_mode = 1,
};

struct runtime {
  bm_handle_t handle;
  uint32_t flags;
  int n_nets;
};

void *bmrt_create(bm_handle_t bm_handle) {
  if (bm_handle == NULL) return NULL;
  struct runtime *made = calloc(1, sizeof *made);
  made->handle = bm_handle;
  return made;
}

void bmrt_destroy(void *p_bmrt) {
  fake_note("destroy", -1);
  fake_idle("bmrt_destroy");
  free(p_bmrt);
}

void bmrt_set_flags(void *p_bmrt, uint32_t flags) { ((struct runtime *)p_bmrt)->flags = flags; }

uint32_t bmrt_get_flags(void *p_bmrt) { return ((struct runtime *)p_bmrt)->flags; }

bool bmrt_load_bmodel(void *p_bmrt, const char *bmodel_path) {
  if (strcmp(bmodel_path, "/models/small.bmodel") != 0) return false;
  ((struct runtime *)p_bmrt)->n_nets = 2;
  return true;
}

bool bmrt_load_bmodel_data(void *p_bmrt, const void *bmodel_data, size_t size) {
  if (size != 4 || memcmp(bmodel_data, "good", 4) != 0) return false;
  ((struct runtime *)p_bmrt)->n_nets = 2;
  return true;
}

int bmrt_get_network_number(void *p_bmrt) { return ((struct runtime *)p_bmrt)->n_nets; }

void bmrt_get_network_names(void *p_bmrt, const char ***network_names) {
  if (((struct runtime *)p_bmrt)->n_nets == 0) return;
  *network_names = malloc(sizeof names);
  memcpy(*network_names, names, sizeof names);
}

const bm_net_info_t *bmrt_get_network_info(void *p_bmrt, const char *net_name) {
  bool known = ((struct runtime *)p_bmrt)->n_nets > 0 && strcmp(net_name, net.name) == 0;
  return known ? &net : NULL;
}

#ifndef WITHOUT_LAUNCH
/* Adds one to every number; calls libbmlib, as the real one does. */
bool bmrt_launch_tensor_ex(void *p_bmrt, const char *net_name, const bm_tensor_t input_tensors[],
                           int input_num, bm_tensor_t output_tensors[], int output_num,
                           bool user_mem, bool user_stmode) {
  int32_t numbers[8];
  struct runtime *runtime = p_bmrt;
  fake_note("launch", -1);
  if (refuses) return false;
  if (strcmp(net_name, net.name) != 0 || input_num != 1 || output_num != 1) return false;
  if (!user_mem || user_stmode || input_tensors[0].dtype != BM_INT32) return false;
  bm_shape_t in = input_tensors[0].shape;
  if (in.num_dims != 2 || in.dims[0] != 1 || in.dims[1] > 8) return false;
  unsigned int size = 4u * in.dims[1];
  if (bm_memcpy_d2s_partial_offset(runtime->handle, numbers, input_tensors[0].device_mem, size, 0))
    return false;
  for (int i = 0; i < in.dims[1]; i++) numbers[i] += 1;
  output_tensors[0].shape = in;
  fake_launched(net.core_num);
  return bm_memcpy_s2d_partial_offset(runtime->handle, output_tensors[0].device_mem, numbers, size,
                                      0) == BM_SUCCESS;
}
#endif

const char *libbmrt_version(void) { return "libbmrt_version:" FAKE_VERSION ", branch:none,commit:0"; }

#endif /* FAKE_BMRT */
