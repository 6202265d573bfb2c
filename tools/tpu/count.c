/* SPDX-License-Identifier: MPL-2.0 */

/*
 * Counts what a process asks of Sophgo's libraries: launches, copies, memsets and their bytes.
 *
 *   gcc -O2 -shared -fPIC -o count.so tools/tpu/count.c -ldl
 *   LD_PRELOAD=$PWD/count.so TPU_COUNT_OUT=counts.json gst-launch-1.0 ...
 *
 * It is for programs that link libbmrt and libbmlib and for those that open them at run time: it
 * also stands in for dlsym, and hands out its own functions for theirs.
 *
 * Counts are kept per section. The first is called "start"; a new one begins
 *   - with tpu_count_mark("name"), which a program finds by dlsym(RTLD_DEFAULT, ...), or
 *   - with SIGUSR1, if TPU_COUNT_SIGNAL is set; its name is "signal".
 * tpu_count_json(buffer, size) writes what is printed at the end of the process: one line of JSON, a
 * list of
 *   {"section": name, "loads": n, "launches": {net: n}, "s2d": [calls, bytes], "d2s": ..., "d2d": ...,
 *    "memset": ..., "inner": {"s2d": ..., ...}}
 * to the file that TPU_COUNT_OUT names, else to standard error. What libbmrt itself calls during a
 * launch or while it loads a bmodel is under "inner": no caller can change it.
 *
 * TPU_COUNT_ONLY=1 counts launches and does not run them: what a program sends for a model that the
 * emulator would take hours for does not depend on what comes out.
 *
 * tpu_count_fail("block_1") makes launches of that net fail from then on, tpu_count_fail("copy") copies
 * on the device, and tpu_count_fail("") nothing any more; it is found as tpu_count_mark is.
 *
 * TPU_HOST_COPIES=1 does device copies and memsets through the host: the emulator of BM1688 ends the
 * process at both. They are counted all the same.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../sophgo-sys/wrapper.h"

enum { S2D, D2S, D2D, MEMSET, N_KINDS };
static const char *const KIND_NAMES[N_KINDS] = {"s2d", "d2s", "d2d", "memset"};

enum { MAX_SECTIONS = 256, MAX_NETS = 256, NAME = 64 };

struct tally {
  unsigned long long calls, bytes;
};

struct section {
  char name[NAME];
  struct tally direct[N_KINDS], inner[N_KINDS];
  int n_loads, n_nets;
  struct {
    char name[NAME];
    unsigned long long launches;
  } nets[MAX_NETS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct section *sections;
static int n_sections;
static volatile sig_atomic_t signalled;

/* How deep this thread is in the vendor's libraries: 1 = in libbmrt, 2 = in a counted copy. */
static __thread int in_runtime, in_copy;

static struct section *current(void) {
  if (signalled || n_sections == 0) {
    const char *name = signalled ? "signal" : "start";
    signalled = 0;
    if (!sections) sections = calloc(MAX_SECTIONS, sizeof *sections);
    if (!sections) abort();
    if (n_sections < MAX_SECTIONS) n_sections++;
    snprintf(sections[n_sections - 1].name, NAME, "%s", name);
  }
  return &sections[n_sections - 1];
}

static void count(int kind, unsigned long long bytes) {
  pthread_mutex_lock(&lock);
  struct section *section = current();
  struct tally *tally = in_runtime ? &section->inner[kind] : &section->direct[kind];
  tally->calls++;
  tally->bytes += bytes;
  pthread_mutex_unlock(&lock);
}

static void count_launch(const char *net) {
  pthread_mutex_lock(&lock);
  struct section *section = current();
  int i = 0;
  while (i < section->n_nets && strcmp(section->nets[i].name, net)) i++;
  if (i == section->n_nets && i < MAX_NETS) {
    snprintf(section->nets[i].name, NAME, "%s", net);
    section->n_nets++;
  }
  if (i < MAX_NETS) section->nets[i].launches++;
  pthread_mutex_unlock(&lock);
}

static void count_load(void) {
  pthread_mutex_lock(&lock);
  current()->n_loads++;
  pthread_mutex_unlock(&lock);
}

/* What fails; empty if nothing does. */
static char failing[NAME];

void tpu_count_fail(const char *what) {
  pthread_mutex_lock(&lock);
  snprintf(failing, NAME, "%s", what);
  pthread_mutex_unlock(&lock);
}

static bool fails(const char *what) {
  pthread_mutex_lock(&lock);
  bool result = !strcmp(failing, what);
  pthread_mutex_unlock(&lock);
  return result;
}

/* ---- sections and what is printed ---- */

void tpu_count_mark(const char *name) {
  pthread_mutex_lock(&lock);
  current();
  if (n_sections < MAX_SECTIONS) n_sections++;
  memset(&sections[n_sections - 1], 0, sizeof *sections);
  snprintf(sections[n_sections - 1].name, NAME, "%s", name);
  pthread_mutex_unlock(&lock);
}

static void write_tallies(FILE *out, const struct tally *tallies) {
  for (int kind = 0; kind < N_KINDS; kind++)
    fprintf(out, "%s\"%s\": [%llu, %llu]", kind ? ", " : "", KIND_NAMES[kind], tallies[kind].calls,
            tallies[kind].bytes);
}

static void write_json(FILE *out) {
  pthread_mutex_lock(&lock);
  current();
  fputc('[', out);
  for (int i = 0; i < n_sections; i++) {
    const struct section *section = &sections[i];
    fprintf(out, "%s{\"section\": \"%s\", \"loads\": %d, \"launches\": {", i ? ", " : "",
            section->name, section->n_loads);
    for (int net = 0; net < section->n_nets; net++)
      fprintf(out, "%s\"%s\": %llu", net ? ", " : "", section->nets[net].name,
              section->nets[net].launches);
    fputs("}, ", out);
    write_tallies(out, section->direct);
    fputs(", \"inner\": {", out);
    write_tallies(out, section->inner);
    fputs("}}", out);
  }
  fputs("]\n", out);
  pthread_mutex_unlock(&lock);
}

/* Returns the length without the final zero; more than fits if the buffer is too small. */
size_t tpu_count_json(char *buffer, size_t size) {
  char *text = NULL;
  size_t length = 0;
  FILE *out = open_memstream(&text, &length);
  if (!out) return 0;
  write_json(out);
  fclose(out);
  if (size) {
    size_t n = length < size - 1 ? length : size - 1;
    memcpy(buffer, text, n);
    buffer[n] = 0;
  }
  free(text);
  return length;
}

static void on_signal(int number) {
  (void)number;
  signalled = 1;
}

__attribute__((constructor)) static void begin(void) {
  if (getenv("TPU_COUNT_SIGNAL")) signal(SIGUSR1, on_signal);
}

__attribute__((destructor)) static void end(void) {
  /* Programs that it was handed on to and that never came near a device say nothing. */
  if (n_sections == 0) return;
  const char *path = getenv("TPU_COUNT_OUT");
  FILE *out = path ? fopen(path, "w") : stderr;
  if (!out) return;
  write_json(out);
  if (path) fclose(out);
}

/* ---- the vendor's functions ---- */

typedef void *(*dlsym_t)(void *, const char *);

static void *real_dlsym(void *handle, const char *name) {
  static dlsym_t real;
  if (!real) real = (dlsym_t)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  if (!real) real = (dlsym_t)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  if (!real) real = (dlsym_t)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
  if (!real) abort();
  return real(handle, name);
}

/* The vendor's function of this name, from wherever the process has it. */
static void *vendor(const char *name) {
  static const char *const FILES[] = {"libbmlib.so.0", "libbmlib.so", "libbmrt.so.1.0", "libbmrt.so"};
  void *found = real_dlsym(RTLD_NEXT, name);
  for (size_t i = 0; !found && i < sizeof FILES / sizeof *FILES; i++) {
    void *library = dlopen(FILES[i], RTLD_LAZY | RTLD_NOLOAD);
    if (library) found = real_dlsym(library, name);
  }
  return found;
}

/* A function of the vendor's behind one of ours: `real` is set by our dlsym, or looked for. */
#define VENDOR(name)                                                            \
  static __typeof__(&name) real_##name;                                         \
  static __typeof__(&name) get_##name(void) {                                   \
    if (!real_##name) real_##name = (__typeof__(&name))vendor(#name);           \
    if (!real_##name) abort();                                                  \
    return real_##name;                                                         \
  }

/* Copies that wrapper.h does not have because we do not call them; others do. */
bm_status_t bm_memcpy_s2d(bm_handle_t, bm_device_mem_t, void *);
bm_status_t bm_memcpy_s2d_partial(bm_handle_t, bm_device_mem_t, void *, unsigned int);
bm_status_t bm_memcpy_d2s(bm_handle_t, void *, bm_device_mem_t);
bm_status_t bm_memcpy_d2s_partial(bm_handle_t, void *, bm_device_mem_t, unsigned int);
bm_status_t bm_memcpy_d2d(bm_handle_t, bm_device_mem_t, int, bm_device_mem_t, int, int);
bm_status_t bm_memset_device(bm_handle_t, int, bm_device_mem_t);

VENDOR(bm_memcpy_s2d)
VENDOR(bm_memcpy_s2d_partial)
VENDOR(bm_memcpy_s2d_partial_offset)
VENDOR(bm_memcpy_d2s)
VENDOR(bm_memcpy_d2s_partial)
VENDOR(bm_memcpy_d2s_partial_offset)
VENDOR(bm_memcpy_d2d)
VENDOR(bm_memcpy_d2d_byte)
VENDOR(bm_memset_device)
VENDOR(bm_memset_device_ext)
VENDOR(bmrt_launch_tensor_ex)
VENDOR(bmrt_load_bmodel)
VENDOR(bmrt_load_bmodel_data)

/* Copies call each other: only the outermost counts. */
#define COPY(kind, bytes, call)        \
  do {                                 \
    if (in_copy++ == 0) count(kind, bytes); \
    bm_status_t status = (call);       \
    in_copy--;                         \
    return status;                     \
  } while (0)

bm_status_t bm_memcpy_s2d(bm_handle_t handle, bm_device_mem_t dst, void *src) {
  COPY(S2D, dst.size, get_bm_memcpy_s2d()(handle, dst, src));
}

bm_status_t bm_memcpy_s2d_partial(bm_handle_t handle, bm_device_mem_t dst, void *src,
                                  unsigned int size) {
  COPY(S2D, size, get_bm_memcpy_s2d_partial()(handle, dst, src, size));
}

bm_status_t bm_memcpy_s2d_partial_offset(bm_handle_t handle, bm_device_mem_t dst, void *src,
                                         unsigned int size, unsigned int offset) {
  COPY(S2D, size, get_bm_memcpy_s2d_partial_offset()(handle, dst, src, size, offset));
}

bm_status_t bm_memcpy_d2s(bm_handle_t handle, void *dst, bm_device_mem_t src) {
  COPY(D2S, src.size, get_bm_memcpy_d2s()(handle, dst, src));
}

bm_status_t bm_memcpy_d2s_partial(bm_handle_t handle, void *dst, bm_device_mem_t src,
                                  unsigned int size) {
  COPY(D2S, size, get_bm_memcpy_d2s_partial()(handle, dst, src, size));
}

bm_status_t bm_memcpy_d2s_partial_offset(bm_handle_t handle, void *dst, bm_device_mem_t src,
                                         unsigned int size, unsigned int offset) {
  COPY(D2S, size, get_bm_memcpy_d2s_partial_offset()(handle, dst, src, size, offset));
}

static int by_host(void) {
  static int asked = -1;
  if (asked < 0) asked = getenv("TPU_HOST_COPIES") != NULL;
  return asked;
}

static bm_status_t copy_by_host(bm_handle_t handle, bm_device_mem_t dst, size_t dst_offset,
                                bm_device_mem_t src, size_t src_offset, size_t size) {
  void *bytes = malloc(size ? size : 1);
  if (!bytes) return BM_ERR_NOMEM;
  bm_status_t status =
      get_bm_memcpy_d2s_partial_offset()(handle, bytes, src, size, src_offset);
  if (status == BM_SUCCESS)
    status = get_bm_memcpy_s2d_partial_offset()(handle, dst, bytes, size, dst_offset);
  free(bytes);
  return status;
}

/* A value of `mode` bytes, again and again. */
static bm_status_t set_by_host(bm_handle_t handle, const void *value, int mode,
                               bm_device_mem_t mem) {
  unsigned char *bytes = malloc(mem.size ? mem.size : 1);
  if (!bytes) return BM_ERR_NOMEM;
  for (unsigned int i = 0; i < mem.size; i++)
    bytes[i] = ((const unsigned char *)value)[i % (unsigned int)mode];
  bm_status_t status = get_bm_memcpy_s2d_partial_offset()(handle, mem, bytes, mem.size, 0);
  free(bytes);
  return status;
}

bm_status_t bm_memcpy_d2d(bm_handle_t handle, bm_device_mem_t dst, int dst_offset,
                          bm_device_mem_t src, int src_offset, int words) {
  size_t size = 4 * (size_t)words;
  COPY(D2D, size, by_host()
           ? copy_by_host(handle, dst, 4 * (size_t)dst_offset, src, 4 * (size_t)src_offset, size)
           : get_bm_memcpy_d2d()(handle, dst, dst_offset, src, src_offset, words));
}

bm_status_t bm_memcpy_d2d_byte(bm_handle_t handle, bm_device_mem_t dst, size_t dst_offset,
                               bm_device_mem_t src, size_t src_offset, size_t size) {
  if (fails("copy")) return BM_ERR_FAILURE;
  COPY(D2D, size, by_host()
           ? copy_by_host(handle, dst, dst_offset, src, src_offset, size)
           : get_bm_memcpy_d2d_byte()(handle, dst, dst_offset, src, src_offset, size));
}

bm_status_t bm_memset_device(bm_handle_t handle, int value, bm_device_mem_t mem) {
  COPY(MEMSET, mem.size, by_host() ? set_by_host(handle, &value, sizeof value, mem)
                                   : get_bm_memset_device()(handle, value, mem));
}

bm_status_t bm_memset_device_ext(bm_handle_t handle, void *value, int mode, bm_device_mem_t mem) {
  COPY(MEMSET, mem.size, by_host() ? set_by_host(handle, value, mode, mem)
                                   : get_bm_memset_device_ext()(handle, value, mode, mem));
}

bool bmrt_launch_tensor_ex(void *bmrt, const char *net, const bm_tensor_t inputs[], int n_inputs,
                           bm_tensor_t outputs[], int n_outputs, bool user_mem, bool user_stmode) {
  static int only = -1;
  if (only < 0) only = getenv("TPU_COUNT_ONLY") != NULL;
  if (fails(net)) return false;
  if (in_runtime++ == 0) count_launch(net);
  bool ok = only || get_bmrt_launch_tensor_ex()(bmrt, net, inputs, n_inputs, outputs, n_outputs,
                                                user_mem, user_stmode);
  in_runtime--;
  return ok;
}

bool bmrt_load_bmodel(void *bmrt, const char *path) {
  if (in_runtime++ == 0) count_load();
  bool ok = get_bmrt_load_bmodel()(bmrt, path);
  in_runtime--;
  return ok;
}

bool bmrt_load_bmodel_data(void *bmrt, const void *data, size_t size) {
  if (in_runtime++ == 0) count_load();
  bool ok = get_bmrt_load_bmodel_data()(bmrt, data, size);
  in_runtime--;
  return ok;
}

#define HAND_OUT(name)                                 \
  if (!strcmp(symbol, #name)) {                        \
    void *found = real_dlsym(handle, symbol);          \
    if (found == (void *)&name) return found;          \
    if (found) real_##name = (__typeof__(&name))found; \
    return found ? (void *)&name : NULL;               \
  }

void *dlsym(void *handle, const char *symbol) {
  HAND_OUT(bm_memcpy_s2d)
  HAND_OUT(bm_memcpy_s2d_partial)
  HAND_OUT(bm_memcpy_s2d_partial_offset)
  HAND_OUT(bm_memcpy_d2s)
  HAND_OUT(bm_memcpy_d2s_partial)
  HAND_OUT(bm_memcpy_d2s_partial_offset)
  HAND_OUT(bm_memcpy_d2d)
  HAND_OUT(bm_memcpy_d2d_byte)
  HAND_OUT(bm_memset_device)
  HAND_OUT(bm_memset_device_ext)
  HAND_OUT(bmrt_launch_tensor_ex)
  HAND_OUT(bmrt_load_bmodel)
  HAND_OUT(bmrt_load_bmodel_data)
  return real_dlsym(handle, symbol);
}
