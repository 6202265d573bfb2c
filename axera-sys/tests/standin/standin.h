/* SPDX-License-Identifier: MPL-2.0 */

/* What both stand-ins share; see README.md. */

#ifndef STANDIN_H
#define STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_TENSORS = 8, MAX_GROUPS = 24, MAX_DIMS = 4, MAX_REGISTERS = 8192 };

enum dtype { U8, U32, BF16, F32 };

struct tensor {
  char name[48];
  enum dtype dtype;
  int n_dims;
  int32_t dims[MAX_DIMS];
  uint32_t bytes;
};

struct group {
  struct tensor in[MAX_TENSORS], out[MAX_TENSORS];
  uint32_t n_in, n_out;
};

struct net {
  char compiler[64];
  int cores;
  /* Bytes it takes of the NPU's memory: those of its file. */
  uint64_t cmm;
  uint32_t n_groups;
  struct group groups[MAX_GROUPS];
  struct op *ops;
  size_t n_ops;
  float *weights;
  size_t n_weights;
};

/* Says what the application did and ends the process. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A net from the bytes of a file; null for other bytes. */
struct net *net_parse(const void *data, size_t size);
void net_free(struct net *net);

/* Runs a group: memory of the NPU for each input and output. */
void net_run(const struct net *net, uint32_t group, const void *const *in, void *const *out);

/* A number of the environment. */
long setting(const char *name, long otherwise);

/* Memory in use by what this library holds; false if `bytes` more do not fit. */
bool take_memory(uint64_t bytes);
void give_memory(uint64_t bytes);
uint64_t memory_total(void);
uint64_t memory_free(void);

/* Things alive: handles, contexts, memory, descriptions, the process itself. */
void born(void);
void gone(void);
long standin_live(void);

/* Numbers that tests look at: see `counters` in net.c. */
void count(const char *what, long n);
void set_count(const char *what, long n);
long standin_count(const char *what);

#endif
