/* SPDX-License-Identifier: MPL-2.0 */

/*
 * Stands in for libax_sys.so and libax_engine.so of a board; see README.md. With STANDIN_OLD defined
 * it lacks a function that is needed, with STANDIN_FAMILY it is another family's.
 */

#define _DEFAULT_SOURCE

#include "soc.h"
#include "standin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_MEMORY = (int)0x800B0018, PARAMETER = (int)0x8006000A, NOT_READY = (int)0x80060010,
       PRIVATE = (int)0x80060081 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int sys_users, engine_users, loads, runs, running;

/* ---- memory: what the CPU sees, what the NPU sees, and where they agreed last ---- */

struct block {
  AX_U64 phys;
  AX_U32 size;
  uint8_t *cpu, *npu, *agreed;
  struct block *next;
};

static struct block *blocks;
static AX_U64 next_phys = 0x100000000;

static struct block *find_block(AX_U64 phys, const void *cpu, AX_U32 size, const char *op) {
  for (struct block *b = blocks; b != NULL; b = b->next) {
    if (phys < b->phys || phys >= b->phys + b->size) continue;
    if (phys + size > b->phys + b->size) die("%s reaches beyond the memory", op);
    if ((const uint8_t *)cpu - b->cpu != (long)(phys - b->phys))
      die("%s: the two addresses are not of one place", op);
    return b;
  }
  die("%s: memory that is not allocated", op);
}

AX_S32 AX_SYS_Init(void) {
  if (sys_users++ == 0) born();
  return 0;
}

AX_S32 AX_SYS_Deinit(void) {
  if (sys_users == 0) die("AX_SYS_Deinit without AX_SYS_Init");
  if (engine_users > 0) die("AX_SYS_Deinit while the engine runs");
  if (blocks != NULL) die("AX_SYS_Deinit with memory allocated");
  if (--sys_users == 0) gone();
  return 0;
}

AX_S32 AX_SYS_MemAllocCached(AX_U64 *phyaddr, void **pviraddr, AX_U32 size, AX_U32 align,
                             const AX_S8 *token) {
  if (sys_users == 0) die("memory before AX_SYS_Init");
  if (size == 0 || align % 128 != 0 || token == NULL) die("MemAlloc: parameters");
  if (!take_memory(size)) return NO_MEMORY;
  struct block *b = calloc(1, sizeof *b);
  b->size = size;
  b->cpu = malloc(size);
  b->npu = malloc(size);
  b->agreed = malloc(size);
  /* What somebody else left there. */
  memset(b->cpu, 0xa5, size);
  memset(b->npu, 0x5a, size);
  memset(b->agreed, 0xa5, size);
  pthread_mutex_lock(&lock);
  b->phys = next_phys;
  next_phys += (size + 8191) / 4096 * 4096;
  b->next = blocks;
  blocks = b;
  pthread_mutex_unlock(&lock);
  *phyaddr = b->phys;
  *pviraddr = b->cpu;
  born();
  return 0;
}

AX_S32 AX_SYS_MemFree(AX_U64 phyaddr, void *pviraddr) {
  pthread_mutex_lock(&lock);
  for (struct block **at = &blocks; *at != NULL; at = &(*at)->next) {
    struct block *b = *at;
    if (b->phys != phyaddr || b->cpu != pviraddr) continue;
    *at = b->next;
    pthread_mutex_unlock(&lock);
    give_memory(b->size);
    free(b->cpu);
    free(b->npu);
    free(b->agreed);
    free(b);
    gone();
    return 0;
  }
  die("AX_SYS_MemFree of memory that is not allocated");
}

AX_S32 AX_SYS_MflushCache(AX_U64 phyaddr, void *pviraddr, AX_U32 size) {
  pthread_mutex_lock(&lock);
  struct block *b = find_block(phyaddr, pviraddr, size, "AX_SYS_MflushCache");
  size_t from = phyaddr - b->phys;
  memcpy(b->npu + from, b->cpu + from, size);
  memcpy(b->agreed + from, b->cpu + from, size);
  count("flushed", (long)size);
  pthread_mutex_unlock(&lock);
  return 0;
}

AX_S32 AX_SYS_MinvalidateCache(AX_U64 phyaddr, void *pviraddr, AX_U32 size) {
  pthread_mutex_lock(&lock);
  struct block *b = find_block(phyaddr, pviraddr, size, "AX_SYS_MinvalidateCache");
  size_t from = phyaddr - b->phys;
  for (size_t i = from; i < from + size; i++) {
    if (b->cpu[i] != b->agreed[i]) die("AX_SYS_MinvalidateCache loses bytes that were not flushed");
    b->cpu[i] = b->agreed[i] = b->npu[i];
  }
  count("invalidated", (long)size);
  pthread_mutex_unlock(&lock);
  return 0;
}

AX_S32 AX_SYS_MemQueryStatus(AX_CMM_STATUS_T *status) {
  memset(status, 0, sizeof *status);
  status->TotalSize = (AX_U32)(memory_total() >> 10);
  status->RemainSize = (AX_U32)(memory_free() >> 10);
  return 0;
}

/* ---- engine ---- */

struct handle {
  struct net *net;
  AX_ENGINE_IO_INFO_T *infos;
  void *context;
  struct handle *next;
};

static struct handle *handles;

const char *AX_ENGINE_GetVersion(void) {
  const char *version = getenv("STANDIN_VERSION");
  return version ? version : "V1.45.0_P39_20250801 standin";
}

AX_S32 AX_ENGINE_Init(AX_ENGINE_NPU_ATTR_T *attr) {
  if (sys_users == 0) die("AX_ENGINE_Init before AX_SYS_Init");
  for (int i = 0; i < 8; i++)
    if (attr->reserve[i] != 0) die("AX_ENGINE_Init: a reserved field is not zero");
  if (engine_users++ == 0) born();
  return 0;
}

AX_S32 AX_ENGINE_Deinit(void) {
  if (engine_users == 0) die("AX_ENGINE_Deinit without AX_ENGINE_Init");
  if (handles != NULL) die("AX_ENGINE_Deinit with models loaded");
  if (--engine_users == 0) gone();
  return 0;
}

AX_S32 AX_ENGINE_GetVNPUAttr(AX_ENGINE_NPU_ATTR_T *attr) {
  long mode = setting("STANDIN_VNPU", -1);
  if (mode < 0 && engine_users == 0) return NOT_READY;
  attr->eHardMode = mode < 0 ? 0 : (AX_ENGINE_NPU_MODE_T)mode;
  return 0;
}

AX_S32 AX_ENGINE_GetModelType(const void *data, AX_U32 size, AX_ENGINE_MODEL_TYPE_T *type) {
  struct net *net = net_parse(data, size);
  if (net == NULL) return PARAMETER;
  *type = (AX_ENGINE_MODEL_TYPE_T)(net->cores - 1);
  net_free(net);
  return 0;
}

static AX_ENGINE_IOMETA_T *describe(struct tensor *list, AX_U32 n) {
  AX_ENGINE_IOMETA_T *metas = calloc(n, sizeof *metas);
  for (AX_U32 i = 0; i < n; i++) {
    static const AX_ENGINE_DATA_TYPE_T types[] = {AX_ENGINE_DT_UINT8, AX_ENGINE_DT_UINT32,
                                                  AX_ENGINE_DT_BFLOAT16, AX_ENGINE_DT_FLOAT32};
    metas[i].pName = list[i].name;
    metas[i].pShape = list[i].dims;
    metas[i].nShapeSize = (AX_U8)list[i].n_dims;
    metas[i].eDataType = types[list[i].dtype];
    if (list[i].dtype == BF16 && setting("STANDIN_BF16_UNKNOWN", 0))
      metas[i].eDataType = AX_ENGINE_DT_UNKNOWN;
    metas[i].nSize = list[i].bytes;
  }
  return metas;
}

static void begin(const char *what) {
  if (__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST) > 1)
    die("%s while the engine loads or runs", what);
}

AX_S32 AX_ENGINE_CreateHandleV2(AX_ENGINE_HANDLE *out, const void *data, AX_U32 size,
                                AX_ENGINE_HANDLE_EXTRA_T *extra) {
  if (engine_users == 0) die("AX_ENGINE_CreateHandleV2 before AX_ENGINE_Init");
  if (extra == NULL || extra->pName == NULL || extra->nNpuSet != 0) die("CreateHandle: extra");
  begin("a load");
  /* Long enough for others to come. */
  usleep(2000);
  AX_S32 code = 0;
  struct net *net = NULL;
  if (++loads == setting("STANDIN_LOAD_FAILS", 0)) {
    code = PRIVATE;
  } else if ((net = net_parse(data, size)) == NULL) {
    code = PARAMETER;
  } else if (!take_memory(net->cmm)) {
    net_free(net);
    code = NO_MEMORY;
  }
  __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
  if (code != 0) return code;
  struct handle *h = calloc(1, sizeof *h);
  h->net = net;
  h->infos = calloc(net->n_groups, sizeof *h->infos);
  for (AX_U32 i = 0; i < net->n_groups; i++) {
    struct group *g = &net->groups[i];
    h->infos[i].pInputs = describe(g->in, g->n_in);
    h->infos[i].nInputSize = g->n_in;
    h->infos[i].pOutputs = describe(g->out, g->n_out);
    h->infos[i].nOutputSize = g->n_out;
    h->infos[i].nMaxBatchSize = 1;
  }
  pthread_mutex_lock(&lock);
  h->next = handles;
  handles = h;
  pthread_mutex_unlock(&lock);
  *out = h;
  born();
  return 0;
}

static struct handle *alive(AX_ENGINE_HANDLE handle, const char *op) {
  pthread_mutex_lock(&lock);
  struct handle *h = handles;
  while (h != NULL && h != handle) h = h->next;
  pthread_mutex_unlock(&lock);
  if (h == NULL) die("%s: a handle that is not loaded", op);
  return h;
}

AX_S32 AX_ENGINE_DestroyHandle(AX_ENGINE_HANDLE handle) {
  struct handle *h = alive(handle, "AX_ENGINE_DestroyHandle");
  pthread_mutex_lock(&lock);
  struct handle **at = &handles;
  while (*at != h) at = &(*at)->next;
  *at = h->next;
  pthread_mutex_unlock(&lock);
  for (AX_U32 i = 0; i < h->net->n_groups; i++) {
    free(h->infos[i].pInputs);
    free(h->infos[i].pOutputs);
  }
  give_memory(h->net->cmm);
  net_free(h->net);
  free(h->infos);
  free(h->context);
  free(h);
  gone();
  return 0;
}

AX_S32 AX_ENGINE_CreateContextV2(AX_ENGINE_HANDLE handle, AX_ENGINE_CONTEXT *context) {
  struct handle *h = alive(handle, "AX_ENGINE_CreateContextV2");
  if (h->context != NULL) die("a second context, which nothing here needs");
  *context = h->context = malloc(1);
  return 0;
}

#ifndef STANDIN_OLD
AX_S32 AX_ENGINE_GetGroupIOInfoCount(AX_ENGINE_HANDLE handle, AX_U32 *n) {
  *n = alive(handle, "AX_ENGINE_GetGroupIOInfoCount")->net->n_groups;
  return 0;
}
#endif

AX_S32 AX_ENGINE_GetGroupIOInfo(AX_ENGINE_HANDLE handle, AX_U32 index, AX_ENGINE_IO_INFO_T **info) {
  struct handle *h = alive(handle, "AX_ENGINE_GetGroupIOInfo");
  if (index >= h->net->n_groups) return PARAMETER;
  *info = &h->infos[index];
  return 0;
}

static struct block *bound(const AX_ENGINE_IO_BUFFER_T *buffer, const struct tensor *t) {
  for (int i = 0; i < 11; i++)
    if (buffer->u64Reserved[i] != 0) die("%s: a reserved field is not zero", t->name);
  if (buffer->pStride != NULL || buffer->nStrideSize != 0) die("%s: strides", t->name);
  if (buffer->nSize != t->bytes) die("%s: %u bytes for %u", t->name, buffer->nSize, t->bytes);
  return find_block(buffer->phyAddr, buffer->pVirAddr, buffer->nSize, t->name);
}

AX_S32 AX_ENGINE_RunGroupIOSync(AX_ENGINE_HANDLE handle, AX_ENGINE_CONTEXT context, AX_U32 index,
                                AX_ENGINE_IO_T *io) {
  struct handle *h = alive(handle, "AX_ENGINE_RunGroupIOSync");
  begin("a run");
  if (context == NULL || context != h->context) die("the context of another model");
  if (index >= h->net->n_groups) die("there is no group %u", index);
  const struct group *g = &h->net->groups[index];
  if (io->nInputSize != g->n_in || io->nOutputSize != g->n_out) die("a wrong number of tensors");
  if (io->nBatchSize > 1 || io->pIoSetting != NULL || io->nParallelRun != 0) die("settings of a run");
  for (int i = 0; i < 10; i++)
    if (io->u64Reserved[i] != 0) die("a reserved field of the run is not zero");
  const void *in[MAX_TENSORS];
  void *out[MAX_TENSORS];
  pthread_mutex_lock(&lock);
  for (AX_U32 i = 0; i < g->n_in; i++) {
    struct block *b = bound(&io->pInputs[i], &g->in[i]);
    size_t at = io->pInputs[i].phyAddr - b->phys;
    if (memcmp(b->cpu + at, b->agreed + at, g->in[i].bytes) != 0)
      die("%s was written and not flushed", g->in[i].name);
    in[i] = b->npu + at;
  }
  for (AX_U32 i = 0; i < g->n_out; i++) {
    struct block *b = bound(&io->pOutputs[i], &g->out[i]);
    size_t at = io->pOutputs[i].phyAddr - b->phys;
    out[i] = b->npu + at;
    for (AX_U32 j = 0; j < g->n_in; j++)
      if ((uint8_t *)out[i] < (const uint8_t *)in[j] + g->in[j].bytes &&
          (const uint8_t *)in[j] < (uint8_t *)out[i] + g->out[i].bytes)
        die("output %s lies over input %s", g->out[i].name, g->in[j].name);
  }
  pthread_mutex_unlock(&lock);
  bool fails = ++runs == setting("STANDIN_RUN_FAILS", 0);
  if (!fails) net_run(h->net, index, in, out);
  __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
  return fails ? PRIVATE : 0;
}

AX_S32 AX_ENGINE_GetCMMUsage(AX_ENGINE_HANDLE handle, AX_ENGINE_CMM_INFO *info) {
  info->nCMMSize = (AX_U32)alive(handle, "AX_ENGINE_GetCMMUsage")->net->cmm;
  return 0;
}

const char *AX_ENGINE_GetModelToolsVersion(AX_ENGINE_HANDLE handle) {
  return alive(handle, "AX_ENGINE_GetModelToolsVersion")->net->compiler;
}

AX_S32 AX_ENGINE_SetAffinity(AX_ENGINE_HANDLE handle, AX_U32 affinity) {
  (void)handle, (void)affinity;
  return 0;
}

#ifdef STANDIN_FAMILY
AX_S32 AX_ENGINE_GetTotalOps(void) { return 0; }
#endif

__attribute__((destructor)) static void end(void) {
  if (standin_live() == 0) return;
  fprintf(stderr, "standin: the process ends and %ld things are left\n", standin_live());
  abort();
}
