// SPDX-License-Identifier: MPL-2.0

// A fake of libbmlib and libbmrt in one file, for tests of what is refused before or while a bmodel
// is loaded. It computes nothing. FAKE_* in the environment say how the device fares.

#include <stdlib.h>
#include <string.h>

#include "wrapper.h"

// In faults.c.
void fake_fault(const char *what);

static unsigned long number(const char *name, unsigned long otherwise) {
  const char *text = getenv(name);
  return text ? strtoul(text, NULL, 0) : otherwise;
}

bm_status_t bm_dev_getcount(int *count) {
  *count = (int)number("FAKE_DEVICES", 1);
  return BM_SUCCESS;
}

bm_status_t bm_dev_request(bm_handle_t *handle, int devid) {
  (void)devid;
  if (getenv("FAKE_FAULT")) {
    fake_fault(getenv("FAKE_FAULT"));
  }
  *handle = malloc(1);
  return (bm_status_t)number("FAKE_REQUEST", BM_SUCCESS);
}

void bm_dev_free(bm_handle_t handle) { free(handle); }

bm_status_t bm_get_chipid(bm_handle_t handle, unsigned int *p_chipid) {
  (void)handle;
  *p_chipid = (unsigned int)number("FAKE_CHIP", 0x1686);
  return BM_SUCCESS;
}

bm_status_t bm_get_tpu_scalar_num(bm_handle_t handle, unsigned int *core_num) {
  (void)handle;
  *core_num = (unsigned int)number("FAKE_CORES", 1);
  return BM_SUCCESS;
}

bm_status_t bm_get_gmem_total_heap_num(bm_handle_t handle, unsigned int *heap_num) {
  (void)handle;
  *heap_num = 2;
  return BM_SUCCESS;
}

bm_status_t bm_get_gmem_heap_stat_byte_by_id(bm_handle_t handle, bm_heap_stat_byte_t *heap,
                                             unsigned int heap_id) {
  (void)handle;
  heap->heap_id = heap_id;
  heap->mem_total = 4096ull << 20;
  heap->mem_avail = (unsigned long long)number("FAKE_FREE_MIB", 4096) << 20;
  return BM_SUCCESS;
}

bm_status_t bm_get_misc_info(bm_handle_t handle, struct bm_misc_info *info) {
  (void)handle, (void)info;
  return BM_NOT_SUPPORTED;
}

bm_status_t bm_malloc_device_byte(bm_handle_t handle, bm_device_mem_t *mem, unsigned int size) {
  (void)handle, (void)mem, (void)size;
  return BM_ERR_NOMEM;
}

void bm_free_device(bm_handle_t handle, bm_device_mem_t mem) { (void)handle, (void)mem; }

bm_status_t bm_memcpy_s2d_partial_offset(bm_handle_t handle, bm_device_mem_t dst, void *src,
                                         unsigned int size, unsigned int offset) {
  (void)handle, (void)dst, (void)src, (void)size, (void)offset;
  return BM_ERR_FAILURE;
}

bm_status_t bm_memcpy_d2s_partial_offset(bm_handle_t handle, void *dst, bm_device_mem_t src,
                                         unsigned int size, unsigned int offset) {
  (void)handle, (void)dst, (void)src, (void)size, (void)offset;
  return BM_ERR_FAILURE;
}

bm_status_t bm_memcpy_d2d_byte(bm_handle_t handle, bm_device_mem_t dst, size_t dst_offset,
                               bm_device_mem_t src, size_t src_offset, size_t size) {
  (void)handle, (void)dst, (void)dst_offset, (void)src, (void)src_offset, (void)size;
  return BM_ERR_FAILURE;
}

bm_status_t bm_memset_device_ext(bm_handle_t handle, void *value, int mode, bm_device_mem_t mem) {
  (void)handle, (void)value, (void)mode, (void)mem;
  return BM_ERR_FAILURE;
}

bm_status_t bm_thread_sync(bm_handle_t handle) {
  (void)handle;
  return BM_SUCCESS;
}

void *bmrt_create(bm_handle_t handle) { return handle; }
void bmrt_destroy(void *bmrt) { (void)bmrt; }
void bmrt_set_flags(void *bmrt, uint32_t flags) { (void)bmrt, (void)flags; }
uint32_t bmrt_get_flags(void *bmrt) { return (void)bmrt, 1; }

bool bmrt_load_bmodel(void *bmrt, const char *path) { return (void)bmrt, (void)path, false; }

bool bmrt_load_bmodel_data(void *bmrt, const void *data, size_t size) {
  return (void)bmrt, (void)data, (void)size, false;
}

int bmrt_get_network_number(void *bmrt) { return (void)bmrt, 0; }
void bmrt_get_network_names(void *bmrt, const char ***names) { (void)bmrt, (void)names; }

const bm_net_info_t *bmrt_get_network_info(void *bmrt, const char *name) {
  return (void)bmrt, (void)name, NULL;
}

bool bmrt_launch_tensor_ex(void *bmrt, const char *net, const bm_tensor_t inputs[], int n_inputs,
                           bm_tensor_t outputs[], int n_outputs, bool user_mem, bool user_stmode) {
  (void)bmrt, (void)net, (void)inputs, (void)n_inputs, (void)outputs, (void)n_outputs;
  return (void)user_mem, (void)user_stmode, false;
}

const char *libbmlib_version(void) { return "libbmlib_version:1.0.0, a fake"; }
const char *libbmrt_version(void) { return "libbmrt_version:1.0.0, a fake"; }
