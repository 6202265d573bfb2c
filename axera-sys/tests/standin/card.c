/* SPDX-License-Identifier: MPL-2.0 */

/*
 * Stands in for libaxcl_rt.so of a host with cards; see README.md. With STANDIN_OLD defined it lacks
 * a function that is needed.
 */

#define _GNU_SOURCE

#include "card.h"
#include "standin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CARD(part, error) ((int)(0x80300000u | (part) << 8 | (error)))

enum {
  NO_DEVICE = CARD(1, 0x81),
  NO_ID = CARD(1, 0x84),
  NO_CONTEXT = CARD(2, 0x84),
  NO_MEMORY = CARD(5, 0x07),
  MODEL_MEMORY = CARD(7, 0x07),
  BAD_FILE = CARD(7, 0x03),
  CARD_DIED = CARD(7, 0x09),
  BUSY = CARD(7, 0x06),
};

/* PCIe buses. */
static const int32_t ids[] = {129, 3};

/* Of the lists. */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int process, set[2], engine[2], loads, runs;
/* Loads and runs that go on on each card. */
static int busy[2];

static int device_index(int32_t id) {
  for (int i = 0; i < setting("STANDIN_DEVICES", 1); i++)
    if (ids[i] == id) return i;
  return -1;
}

/* ---- contexts ---- */

struct context {
  int device;
  struct context *next;
};

static struct context *contexts;
static _Thread_local struct context *current;

static struct context *known(axclrtContext context, const char *op) {
  pthread_mutex_lock(&lock);
  struct context *c = contexts;
  while (c != NULL && c != context) c = c->next;
  pthread_mutex_unlock(&lock);
  if (c == NULL) die("%s: a context that is not open", op);
  return c;
}

/* The device of this thread; -1 without context. */
static int here(void) {
  if (current == NULL) return -1;
  return known(current, "a call")->device;
}

axclError axclInit(const char *config) {
  (void)config;
  if (process++ > 0) die("axclInit twice");
  born();
  return 0;
}

axclError axclFinalize(void) {
  if (process-- != 1) die("axclFinalize without axclInit");
  if (set[0] || set[1]) die("axclFinalize before axclrtResetDevice");
  gone();
  return 0;
}

axclError axclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch) {
  *major = 3, *minor = 10, *patch = 2;
  return 0;
}

axclError axclrtGetDeviceList(axclrtDeviceList *list) {
  if (process == 0) die("axclrtGetDeviceList before axclInit");
  memset(list, 0, sizeof *list);
  long n = setting("STANDIN_DEVICES", 1);
  if (n == 0) return NO_DEVICE;
  list->num = (uint32_t)n;
  memcpy(list->devices, ids, (size_t)n * sizeof *ids);
  return 0;
}

axclError axclrtGetDeviceProperties(int32_t id, axclrtDeviceProperties *p) {
  if (device_index(id) < 0) return NO_ID;
  memset(p, 0, sizeof *p);
  p->temperature = 54321;
  p->npuLoading = 7;
  p->totalCmmSize = (uint32_t)(memory_total() >> 10);
  p->freeCmmSize = (uint32_t)(memory_free() >> 10);
  return 0;
}

axclError axclrtSetDevice(int32_t id) {
  int index = device_index(id);
  if (index < 0) return NO_ID;
  if (set[index]++ == 0) born();
  return 0;
}

axclError axclrtResetDevice(int32_t id) {
  int index = device_index(id);
  if (index < 0 || set[index] == 0) die("axclrtResetDevice of %d, which is not set", id);
  if (--set[index] == 0) {
    for (struct context *c = contexts; c != NULL; c = c->next)
      if (c->device == index) die("axclrtResetDevice with a context open");
    gone();
  }
  return 0;
}

axclError axclrtCreateContext(axclrtContext *out, int32_t id) {
  int index = device_index(id);
  if (index < 0 || set[index] == 0) return NO_ID;
  struct context *c = calloc(1, sizeof *c);
  c->device = index;
  pthread_mutex_lock(&lock);
  c->next = contexts;
  contexts = c;
  pthread_mutex_unlock(&lock);
  *out = current = c;
  born();
  return 0;
}

axclError axclrtDestroyContext(axclrtContext context) {
  struct context *c = known(context, "axclrtDestroyContext");
  pthread_mutex_lock(&lock);
  struct context **at = &contexts;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  pthread_mutex_unlock(&lock);
  if (current == c) current = NULL;
  free(c);
  gone();
  return 0;
}

axclError axclrtSetCurrentContext(axclrtContext context) {
  current = known(context, "axclrtSetCurrentContext");
  return 0;
}

/* ---- memory: not at the addresses that are given out ---- */

struct block {
  uintptr_t start;
  size_t size;
  int device;
  uint8_t *bytes;
  struct block *next;
};

static struct block *blocks;
static uintptr_t next_address = 0x140000000000;

static uint8_t *place(const void *address, size_t size, const char *op) {
  uintptr_t at = (uintptr_t)address;
  pthread_mutex_lock(&lock);
  for (struct block *b = blocks; b != NULL; b = b->next) {
    if (at < b->start || at >= b->start + b->size) continue;
    if (at + size > b->start + b->size) die("%s reaches beyond the memory", op);
    if (b->device != here()) die("%s: memory of another card", op);
    pthread_mutex_unlock(&lock);
    return b->bytes + (at - b->start);
  }
  die("%s: %p is no memory of the card", op, address);
}

axclError axclrtMalloc(void **out, size_t size, axclrtMemMallocPolicy policy) {
  (void)policy;
  if (here() < 0) return NO_CONTEXT;
  if (size == 0) die("axclrtMalloc of nothing");
  if (!take_memory(size)) return NO_MEMORY;
  struct block *b = calloc(1, sizeof *b);
  b->size = size;
  b->device = here();
  b->bytes = malloc(size);
  memset(b->bytes, 0xa5, size);
  pthread_mutex_lock(&lock);
  b->start = next_address;
  next_address += (size + 8191) / 4096 * 4096;
  b->next = blocks;
  blocks = b;
  pthread_mutex_unlock(&lock);
  *out = (void *)b->start;
  born();
  return 0;
}

axclError axclrtFree(void *address) {
  if (here() < 0) return NO_CONTEXT;
  pthread_mutex_lock(&lock);
  for (struct block **at = &blocks; *at != NULL; at = &(*at)->next) {
    struct block *b = *at;
    if (b->start != (uintptr_t)address) continue;
    *at = b->next;
    pthread_mutex_unlock(&lock);
    give_memory(b->size);
    free(b->bytes);
    free(b);
    gone();
    return 0;
  }
  die("axclrtFree of memory that is not allocated");
}

axclError axclrtMemset(void *address, uint8_t value, size_t size) {
  if (here() < 0) return NO_CONTEXT;
  memset(place(address, size, "axclrtMemset"), value, size);
  return 0;
}

axclError axclrtMemcpy(void *dst, const void *src, size_t size, axclrtMemcpyKind kind) {
  if (here() < 0) return NO_CONTEXT;
  switch (kind) {
  case AXCL_MEMCPY_HOST_TO_DEVICE:
    memcpy(place(dst, size, "axclrtMemcpy"), src, size);
    count("sent", (long)size);
    break;
  case AXCL_MEMCPY_DEVICE_TO_HOST:
    memcpy(dst, place(src, size, "axclrtMemcpy"), size);
    count("fetched", (long)size);
    break;
  case AXCL_MEMCPY_DEVICE_TO_DEVICE: {
    uint8_t *to = place(dst, size, "axclrtMemcpy"), *from = place(src, size, "axclrtMemcpy");
    if (to < from + size && from < to + size) die("axclrtMemcpy: the ranges overlap");
    memcpy(to, from, size);
    break;
  }
  default: die("axclrtMemcpy: kind %d", (int)kind);
  }
  count("transfers", 1);
  return 0;
}

/* ---- engine ---- */

axclError axclrtEngineInit(axclrtEngineVNpuKind kind) {
  if (here() < 0) return NO_CONTEXT;
  if (setting("STANDIN_VNPU", -1) >= 0 || engine[here()]) return BUSY;
  if (kind != AXCL_VNPU_DISABLE) die("axclrtEngineInit with virtual NPUs");
  engine[here()] = 1;
  born();
  return 0;
}

axclError axclrtEngineGetVNpuKind(axclrtEngineVNpuKind *kind) {
  long mode = setting("STANDIN_VNPU", -1);
  if (mode < 0 && !engine[here()]) return BUSY;
  *kind = mode < 0 ? AXCL_VNPU_DISABLE : (axclrtEngineVNpuKind)mode;
  return 0;
}

struct model {
  uint64_t id;
  struct net *net;
  int device;
  uint64_t context;
  int infos;
  struct model *next;
};

struct info {
  struct model *model;
  int ios;
  struct info *next;
};

struct io {
  struct info *info;
  const void *in[MAX_TENSORS], *out[MAX_TENSORS];
  uint64_t in_size[MAX_TENSORS], out_size[MAX_TENSORS];
  struct io *next;
};

static struct model *models;
static struct info *infos;
static struct io *ios;
static uint64_t next_id = 1000;

static struct model *model_of(uint64_t id, const char *op) {
  pthread_mutex_lock(&lock);
  struct model *m = models;
  while (m != NULL && m->id != id) m = m->next;
  pthread_mutex_unlock(&lock);
  if (m == NULL) die("%s: a model that is not loaded", op);
  return m;
}

static struct info *info_of(axclrtEngineIOInfo info) {
  pthread_mutex_lock(&lock);
  struct info *i = infos;
  while (i != NULL && i != info) i = i->next;
  pthread_mutex_unlock(&lock);
  if (i == NULL) die("a description that is not alive");
  return i;
}

static struct io *io_of(axclrtEngineIO io) {
  pthread_mutex_lock(&lock);
  struct io *i = ios;
  while (i != NULL && i != io) i = i->next;
  pthread_mutex_unlock(&lock);
  if (i == NULL) die("an IO that is not alive");
  return i;
}

axclError axclrtEngineFinalize(void) {
  if (here() < 0) return NO_CONTEXT;
  if (!engine[here()]) die("axclrtEngineFinalize without axclrtEngineInit");
  for (struct model *m = models; m != NULL; m = m->next)
    if (m->device == here()) die("axclrtEngineFinalize with models loaded");
  engine[here()] = 0;
  gone();
  return 0;
}

static struct net *read_net(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *bytes = malloc((size_t)size + 1);
  size_t got = fread(bytes, 1, (size_t)size, file);
  fclose(file);
  struct net *net = net_parse(bytes, got);
  free(bytes);
  return net;
}

axclError axclrtEngineGetModelType(const char *path, axclrtEngineModelKind *kind) {
  if (here() < 0) return NO_CONTEXT;
  struct net *net = read_net(path);
  if (net == NULL) return BAD_FILE;
  *kind = (axclrtEngineModelKind)(net->cores - 1);
  net_free(net);
  return 0;
}

#ifndef STANDIN_OLD
axclError axclrtEngineGetUsage(const char *path, int64_t *sys, int64_t *cmm) {
  if (here() < 0) return NO_CONTEXT;
  struct net *net = read_net(path);
  if (net == NULL) return BAD_FILE;
  *sys = 0;
  *cmm = (int64_t)net->cmm;
  net_free(net);
  return 0;
}
#endif

static void begin(int device, const char *what) {
  if (__atomic_add_fetch(&busy[device], 1, __ATOMIC_SEQ_CST) > 1)
    die("%s while the card loads or runs", what);
}

axclError axclrtEngineLoadFromFile(const char *path, uint64_t *id) {
  if (here() < 0) return NO_CONTEXT;
  /* Mode 0: another program started the engine. */
  if (!engine[here()] && setting("STANDIN_VNPU", -1) != 0)
    die("axclrtEngineLoadFromFile before axclrtEngineInit");
  int device = here();
  begin(device, "a load");
  /* Long enough for others to come. */
  usleep(2000);
  axclError code = 0;
  struct net *net = NULL;
  if (++loads == setting("STANDIN_LOAD_FAILS", 0)) {
    code = CARD_DIED;
  } else if ((net = read_net(path)) == NULL) {
    code = BAD_FILE;
  } else if (!take_memory(net->cmm)) {
    net_free(net);
    code = MODEL_MEMORY;
  } else {
    struct model *m = calloc(1, sizeof *m);
    m->id = *id = next_id++;
    m->net = net;
    m->device = here();
    pthread_mutex_lock(&lock);
    m->next = models;
    models = m;
    pthread_mutex_unlock(&lock);
    born();
  }
  __atomic_sub_fetch(&busy[device], 1, __ATOMIC_SEQ_CST);
  return code;
}

axclError axclrtEngineUnload(uint64_t id) {
  if (here() < 0) return NO_CONTEXT;
  struct model *m = model_of(id, "axclrtEngineUnload");
  if (m->infos > 0) die("axclrtEngineUnload with a description alive");
  pthread_mutex_lock(&lock);
  struct model **at = &models;
  while (*at != m) at = &(*at)->next;
  *at = m->next;
  pthread_mutex_unlock(&lock);
  give_memory(m->net->cmm);
  net_free(m->net);
  free(m);
  gone();
  return 0;
}

const char *axclrtEngineGetModelCompilerVersion(uint64_t id) {
  return model_of(id, "axclrtEngineGetModelCompilerVersion")->net->compiler;
}

axclError axclrtEngineCreateContext(uint64_t id, uint64_t *context) {
  if (here() < 0) return NO_CONTEXT;
  struct model *m = model_of(id, "axclrtEngineCreateContext");
  *context = m->context = next_id++;
  return 0;
}

axclError axclrtEngineGetIOInfo(uint64_t id, axclrtEngineIOInfo *out) {
  if (here() < 0) return NO_CONTEXT;
  struct info *i = calloc(1, sizeof *i);
  i->model = model_of(id, "axclrtEngineGetIOInfo");
  i->model->infos++;
  pthread_mutex_lock(&lock);
  i->next = infos;
  infos = i;
  pthread_mutex_unlock(&lock);
  *out = i;
  born();
  return 0;
}

axclError axclrtEngineDestroyIOInfo(axclrtEngineIOInfo info) {
  struct info *i = info_of(info);
  if (i->ios > 0) die("axclrtEngineDestroyIOInfo with an IO alive");
  pthread_mutex_lock(&lock);
  struct info **at = &infos;
  while (*at != i) at = &(*at)->next;
  *at = i->next;
  pthread_mutex_unlock(&lock);
  i->model->infos--;
  free(i);
  gone();
  return 0;
}

axclError axclrtEngineGetShapeGroupsCount(axclrtEngineIOInfo info, int32_t *n) {
  *n = (int32_t)info_of(info)->model->net->n_groups;
  return 0;
}

uint32_t axclrtEngineGetNumInputs(axclrtEngineIOInfo info) {
  return info_of(info)->model->net->groups[0].n_in;
}

uint32_t axclrtEngineGetNumOutputs(axclrtEngineIOInfo info) {
  return info_of(info)->model->net->groups[0].n_out;
}

static const struct tensor *input(axclrtEngineIOInfo info, uint32_t group, uint32_t index) {
  const struct net *net = info_of(info)->model->net;
  if (group >= net->n_groups || index >= net->groups[group].n_in) die("input %u of group %u", index, group);
  return &net->groups[group].in[index];
}

static const struct tensor *output(axclrtEngineIOInfo info, uint32_t group, uint32_t index) {
  const struct net *net = info_of(info)->model->net;
  if (group >= net->n_groups || index >= net->groups[group].n_out) die("output %u of group %u", index, group);
  return &net->groups[group].out[index];
}

uint64_t axclrtEngineGetInputSizeByIndex(axclrtEngineIOInfo info, uint32_t group, uint32_t index) {
  return input(info, group, index)->bytes;
}

uint64_t axclrtEngineGetOutputSizeByIndex(axclrtEngineIOInfo info, uint32_t group, uint32_t index) {
  return output(info, group, index)->bytes;
}

const char *axclrtEngineGetInputNameByIndex(axclrtEngineIOInfo info, uint32_t index) {
  return input(info, 0, index)->name;
}

const char *axclrtEngineGetOutputNameByIndex(axclrtEngineIOInfo info, uint32_t index) {
  return output(info, 0, index)->name;
}

static void dims_of(const struct tensor *t, axclrtEngineIODims *dims) {
  dims->dimCount = t->n_dims;
  memcpy(dims->dims, t->dims, sizeof t->dims);
}

axclError axclrtEngineGetInputDims(axclrtEngineIOInfo info, uint32_t group, uint32_t index,
                                   axclrtEngineIODims *dims) {
  dims_of(input(info, group, index), dims);
  return 0;
}

axclError axclrtEngineGetOutputDims(axclrtEngineIOInfo info, uint32_t group, uint32_t index,
                                    axclrtEngineIODims *dims) {
  dims_of(output(info, group, index), dims);
  return 0;
}

static axclrtEngineDataType type_of(const struct tensor *t) {
  static const axclrtEngineDataType types[] = {AXCL_DATA_TYPE_UINT8, AXCL_DATA_TYPE_UINT32,
                                               AXCL_DATA_TYPE_BF16, AXCL_DATA_TYPE_FP32};
  return types[t->dtype];
}

axclError axclrtEngineGetInputDataType(axclrtEngineIOInfo info, uint32_t index,
                                       axclrtEngineDataType *type) {
  *type = type_of(input(info, 0, index));
  return 0;
}

axclError axclrtEngineGetOutputDataType(axclrtEngineIOInfo info, uint32_t index,
                                        axclrtEngineDataType *type) {
  *type = type_of(output(info, 0, index));
  return 0;
}

axclError axclrtEngineCreateIO(axclrtEngineIOInfo info, axclrtEngineIO *out) {
  if (here() < 0) return NO_CONTEXT;
  struct io *i = calloc(1, sizeof *i);
  i->info = info_of(info);
  i->info->ios++;
  pthread_mutex_lock(&lock);
  i->next = ios;
  ios = i;
  pthread_mutex_unlock(&lock);
  *out = i;
  born();
  return 0;
}

axclError axclrtEngineDestroyIO(axclrtEngineIO io) {
  struct io *i = io_of(io);
  pthread_mutex_lock(&lock);
  struct io **at = &ios;
  while (*at != i) at = &(*at)->next;
  *at = i->next;
  pthread_mutex_unlock(&lock);
  i->info->ios--;
  free(i);
  gone();
  return 0;
}

axclError axclrtEngineSetInputBufferByIndex(axclrtEngineIO io, uint32_t index, const void *buffer,
                                            uint64_t size) {
  struct io *i = io_of(io);
  if (index >= MAX_TENSORS) die("input %u", index);
  place(buffer, size, "axclrtEngineSetInputBufferByIndex");
  i->in[index] = buffer;
  i->in_size[index] = size;
  return 0;
}

axclError axclrtEngineSetOutputBufferByIndex(axclrtEngineIO io, uint32_t index, const void *buffer,
                                             uint64_t size) {
  struct io *i = io_of(io);
  if (index >= MAX_TENSORS) die("output %u", index);
  place(buffer, size, "axclrtEngineSetOutputBufferByIndex");
  i->out[index] = buffer;
  i->out_size[index] = size;
  return 0;
}

axclError axclrtEngineExecute(uint64_t id, uint64_t context, uint32_t group, axclrtEngineIO io) {
  if (here() < 0) return NO_CONTEXT;
  struct model *m = model_of(id, "axclrtEngineExecute");
  struct io *i = io_of(io);
  if (m->device != here()) die("axclrtEngineExecute: a model of another card");
  if (context == 0 || context != m->context) die("axclrtEngineExecute: a context of another model");
  if (i->info->model != m) die("axclrtEngineExecute: an IO of another model");
  if (group >= m->net->n_groups) die("axclrtEngineExecute: there is no group %u", group);
  const struct group *g = &m->net->groups[group];
  const void *in[MAX_TENSORS];
  void *out[MAX_TENSORS];
  for (uint32_t k = 0; k < g->n_in; k++) {
    const struct tensor *t = &g->in[k];
    if (i->in[k] == NULL) die("%s has no memory", t->name);
    if (i->in_size[k] != t->bytes) die("%s: %lu bytes for %u", t->name, (unsigned long)i->in_size[k], t->bytes);
    in[k] = place(i->in[k], t->bytes, t->name);
  }
  for (uint32_t k = 0; k < g->n_out; k++) {
    const struct tensor *t = &g->out[k];
    if (i->out[k] == NULL) die("%s has no memory", t->name);
    if (i->out_size[k] != t->bytes) die("%s: %lu bytes for %u", t->name, (unsigned long)i->out_size[k], t->bytes);
    uint8_t *to = place(i->out[k], t->bytes, t->name);
    out[k] = to;
    for (uint32_t j = 0; j < g->n_in; j++)
      if (to < (const uint8_t *)in[j] + g->in[j].bytes && (const uint8_t *)in[j] < to + t->bytes)
        die("output %s lies over input %s", t->name, g->in[j].name);
  }
  begin(m->device, "a run");
  bool fails = __atomic_add_fetch(&runs, 1, __ATOMIC_SEQ_CST) == setting("STANDIN_RUN_FAILS", 0);
  if (!fails) net_run(m->net, group, in, out);
  __atomic_sub_fetch(&busy[m->device], 1, __ATOMIC_SEQ_CST);
  return fails ? CARD_DIED : 0;
}

__attribute__((destructor)) static void end(void) {
  if (standin_live() == 0) return;
  fprintf(stderr, "standin: terminate called: the card was not reset, %ld things are left\n", standin_live());
  abort();
}
