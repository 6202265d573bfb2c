/* SPDX-License-Identifier: MPL-2.0 */

/* The nets of the stand-ins: reads them and runs them; see README.md. */

#include "standin.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 7 };

struct op {
  char name[16];
  char tensor[48];
  int args[MAX_ARGS];
  float eps;
};

struct matrix {
  const float *v;
  float *owned;
  int rows, cols;
};

_Noreturn void die(const char *format, ...) {
  va_list list;
  va_start(list, format);
  fputs("standin: ", stderr);
  vfprintf(stderr, format, list);
  fputc('\n', stderr);
  va_end(list);
  abort();
}

long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text == NULL || *text == 0 ? otherwise : atol(text);
}

/* ---- bookkeeping ---- */

static uint64_t used;
static long alive;
static struct {
  char what[32];
  long n;
} counters[32];

uint64_t memory_total(void) { return (uint64_t)setting("STANDIN_CMM_MIB", 7040) << 20; }

uint64_t memory_free(void) {
  uint64_t others = (uint64_t)setting("STANDIN_USED_MIB", 0) << 20;
  uint64_t taken = __atomic_load_n(&used, __ATOMIC_SEQ_CST) + others;
  return taken < memory_total() ? memory_total() - taken : 0;
}

bool take_memory(uint64_t bytes) {
  if (bytes > memory_free()) return false;
  __atomic_add_fetch(&used, bytes, __ATOMIC_SEQ_CST);
  return true;
}

void give_memory(uint64_t bytes) { __atomic_sub_fetch(&used, bytes, __ATOMIC_SEQ_CST); }

void born(void) { __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST); }
void gone(void) { __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST); }
long standin_live(void) { return __atomic_load_n(&alive, __ATOMIC_SEQ_CST); }

static long *counter(const char *what) {
  for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
    if (counters[i].what[0] == 0) snprintf(counters[i].what, sizeof counters[i].what, "%s", what);
    if (strcmp(counters[i].what, what) == 0) return &counters[i].n;
  }
  die("too many counters");
}

void count(const char *what, long n) { *counter(what) += n; }
void set_count(const char *what, long n) { *counter(what) = n; }
long standin_count(const char *what) { return *counter(what); }

/* ---- reading ---- */

static uint32_t type_bytes(enum dtype dtype) {
  return dtype == U8 ? 1 : dtype == BF16 ? 2 : 4;
}

static bool parse_tensor(const char *line, struct net *net, bool input) {
  int group;
  char name[48], type[8], dims[64];
  if (sscanf(line, "%d %47s %7s %63s", &group, name, type, dims) != 4) return false;
  if (group < 0 || group >= MAX_GROUPS) return false;
  if ((uint32_t)group >= net->n_groups) net->n_groups = (uint32_t)group + 1;
  struct group *g = &net->groups[group];
  uint32_t *n = input ? &g->n_in : &g->n_out;
  if (*n == MAX_TENSORS) return false;
  struct tensor *t = &(input ? g->in : g->out)[(*n)++];
  snprintf(t->name, sizeof t->name, "%s", name);
  t->dtype = strcmp(type, "u8") == 0     ? U8
             : strcmp(type, "u32") == 0  ? U32
             : strcmp(type, "bf16") == 0 ? BF16
                                         : F32;
  t->bytes = type_bytes(t->dtype);
  for (char *at = strtok(dims, ","); at != NULL; at = strtok(NULL, ",")) {
    if (t->n_dims == MAX_DIMS) return false;
    t->dims[t->n_dims++] = atoi(at);
    t->bytes *= (uint32_t)atoi(at);
  }
  return t->n_dims > 0;
}

static bool parse_op(const char *line, struct op *op) {
  int at = 0;
  if (sscanf(line, "%15s%n", op->name, &at) != 1) return false;
  line += at;
  if (strcmp(op->name, "get") == 0) return sscanf(line, "%d %47s", &op->args[0], op->tensor) == 2;
  if (strcmp(op->name, "put") == 0) return sscanf(line, "%47s %d", op->tensor, &op->args[0]) == 2;
  double eps = 0;
  if (strcmp(op->name, "rms") == 0) {
    bool ok = sscanf(line, "%d %d %d %lf %d", &op->args[0], &op->args[1], &op->args[2], &eps,
                     &op->args[3]) == 5;
    op->eps = (float)eps;
    return ok;
  }
  if (strcmp(op->name, "layer") == 0) {
    bool ok = sscanf(line, "%d %d %d %d %lf", &op->args[0], &op->args[1], &op->args[2],
                     &op->args[3], &eps) == 5;
    op->eps = (float)eps;
    return ok;
  }
  for (int i = 0; i < MAX_ARGS; i++) {
    if (sscanf(line, "%d%n", &op->args[i], &at) != 1) return i > 1;
    line += at;
  }
  return true;
}

struct net *net_parse(const void *data, size_t size) {
  const char *text = data, *end = text + size;
  const char *first = "AXSTANDIN 1\n";
  if (size < strlen(first) || memcmp(text, first, strlen(first)) != 0) return NULL;
  struct net *net = calloc(1, sizeof *net);
  size_t room = 0;
  text += strlen(first);
  for (;;) {
    const char *stop = memchr(text, '\n', (size_t)(end - text));
    char line[256];
    if (stop == NULL || (size_t)(stop - text) >= sizeof line) goto bad;
    memcpy(line, text, (size_t)(stop - text));
    line[stop - text] = 0;
    text = stop + 1;
    bool ok = true;
    if (strcmp(line, "weights") == 0) break;
    if (strncmp(line, "compiler ", 9) == 0)
      snprintf(net->compiler, sizeof net->compiler, "%.63s", line + 9);
    else if (strncmp(line, "cores ", 6) == 0)
      net->cores = atoi(line + 6);
    else if (strncmp(line, "in ", 3) == 0)
      ok = parse_tensor(line + 3, net, true);
    else if (strncmp(line, "out ", 4) == 0)
      ok = parse_tensor(line + 4, net, false);
    else {
      if (net->n_ops == room) {
        room = room ? 2 * room : 64;
        net->ops = realloc(net->ops, room * sizeof *net->ops);
      }
      memset(&net->ops[net->n_ops], 0, sizeof *net->ops);
      ok = parse_op(line, &net->ops[net->n_ops++]);
    }
    if (!ok) goto bad;
  }
  net->cmm = size;
  net->n_weights = (size_t)(end - text) / sizeof(float);
  net->weights = malloc(net->n_weights * sizeof(float) + 1);
  memcpy(net->weights, text, net->n_weights * sizeof(float));
  for (size_t i = 0; i < net->n_ops; i++) {
    const struct op *op = &net->ops[i];
    bool constant = strcmp(op->name, "const") == 0;
    size_t last = constant ? (size_t)op->args[3] + (size_t)op->args[1] * (size_t)op->args[2] : 0;
    if (last > net->n_weights) goto bad;
  }
  return net;
bad:
  net_free(net);
  return NULL;
}

void net_free(struct net *net) {
  if (net == NULL) return;
  free(net->ops);
  free(net->weights);
  free(net);
}

/* ---- running ---- */

struct run {
  struct matrix r[MAX_REGISTERS];
};

static struct matrix *slot(struct run *run, int i) {
  if (i < 0 || i >= MAX_REGISTERS) die("register %d", i);
  return &run->r[i];
}

static const struct matrix *arg(struct run *run, const struct op *op, int i) {
  const struct matrix *m = slot(run, op->args[i]);
  if (m->v == NULL) die("%s reads register %d, which is empty", op->name, op->args[i]);
  return m;
}

static float *make(struct run *run, int i, int rows, int cols) {
  struct matrix *m = slot(run, i);
  if (m->v != NULL) die("register %d is written twice", i);
  m->owned = calloc((size_t)rows * (size_t)cols + 1, sizeof(float));
  m->v = m->owned;
  m->rows = rows;
  m->cols = cols;
  return m->owned;
}

static float bf16_to_f32(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/* Round to nearest, ties to even. */
static uint16_t f32_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (value != value) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void get(struct run *run, int i, const struct tensor *t, const void *data) {
  int n = 1, cols = t->dims[t->n_dims - 1];
  for (int d = 0; d < t->n_dims; d++) n *= t->dims[d];
  float *v = make(run, i, n / cols, cols);
  for (int k = 0; k < n; k++) {
    switch (t->dtype) {
    case U8: v[k] = ((const uint8_t *)data)[k]; break;
    case U32: v[k] = (float)((const uint32_t *)data)[k]; break;
    case BF16: v[k] = bf16_to_f32(((const uint16_t *)data)[k]); break;
    case F32: v[k] = ((const float *)data)[k]; break;
    }
  }
}

static void put(const struct matrix *m, const struct tensor *t, void *data) {
  size_t n = (size_t)m->rows * (size_t)m->cols;
  if (n * type_bytes(t->dtype) != t->bytes)
    die("output %s: the net made %d x %d for %u bytes", t->name, m->rows, m->cols, t->bytes);
  for (size_t k = 0; k < n; k++) {
    if (t->dtype == BF16)
      ((uint16_t *)data)[k] = f32_to_bf16(m->v[k]);
    else
      ((float *)data)[k] = m->v[k];
  }
}

static void linear(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1), *w = arg(run, op, 2);
  const float *bias = op->args[3] < 0 ? NULL : arg(run, op, 3)->v;
  if (x->cols != w->cols) die("linear: %d columns for %d", x->cols, w->cols);
  float *out = make(run, op->args[0], x->rows, w->rows);
  for (int i = 0; i < x->rows; i++) {
    for (int j = 0; j < w->rows; j++) {
      const float *a = x->v + (size_t)i * (size_t)x->cols, *b = w->v + (size_t)j * (size_t)w->cols;
      float sum[8] = {0};
      int k = 0;
      for (; k + 8 <= x->cols; k += 8)
        for (int l = 0; l < 8; l++) sum[l] += a[k + l] * b[k + l];
      float total = bias ? bias[j] : 0;
      for (; k < x->cols; k++) total += a[k] * b[k];
      for (int l = 0; l < 8; l++) total += sum[l];
      out[(size_t)i * (size_t)w->rows + (size_t)j] = total;
    }
  }
}

static void by_element(struct run *run, const struct op *op, bool product) {
  const struct matrix *a = arg(run, op, 1), *b = arg(run, op, 2);
  if (a->cols != b->cols || (b->rows != 1 && b->rows != a->rows))
    die("%s: %d x %d and %d x %d", op->name, a->rows, a->cols, b->rows, b->cols);
  float *out = make(run, op->args[0], a->rows, a->cols);
  for (int i = 0; i < a->rows; i++)
    for (int j = 0; j < a->cols; j++) {
      int at = i * a->cols + j;
      float other = b->v[b->rows == 1 ? j : at];
      out[at] = product ? a->v[at] * other : a->v[at] + other;
    }
}

static void rms(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1), *w = arg(run, op, 2);
  int width = x->cols / op->args[3];
  if (w->cols != width) die("rms: %d weights for %d", w->cols, width);
  float *out = make(run, op->args[0], x->rows, x->cols);
  for (int at = 0; at < x->rows * x->cols; at += width) {
    float sum = 0;
    for (int j = 0; j < width; j++) sum += x->v[at + j] * x->v[at + j];
    float scale = 1 / sqrtf(sum / (float)width + op->eps);
    for (int j = 0; j < width; j++) out[at + j] = x->v[at + j] * scale * w->v[j];
  }
}

static void layer(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1), *w = arg(run, op, 2), *b = arg(run, op, 3);
  float *out = make(run, op->args[0], x->rows, x->cols);
  for (int i = 0; i < x->rows; i++) {
    const float *v = x->v + i * x->cols;
    float mean = 0, var = 0;
    for (int j = 0; j < x->cols; j++) mean += v[j];
    mean /= (float)x->cols;
    for (int j = 0; j < x->cols; j++) var += (v[j] - mean) * (v[j] - mean);
    float scale = 1 / sqrtf(var / (float)x->cols + op->eps);
    for (int j = 0; j < x->cols; j++)
      out[i * x->cols + j] = (v[j] - mean) * scale * w->v[j] + b->v[j];
  }
}

static void activation(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1);
  float *out = make(run, op->args[0], x->rows, x->cols);
  for (int at = 0; at < x->rows * x->cols; at++) {
    float v = x->v[at];
    if (op->name[0] == 's')
      out[at] = v / (1 + expf(-v));
    else if (strcmp(op->name, "gelu") == 0)
      out[at] = 0.5f * v * (1 + erff(v * 0.70710678f));
    else
      out[at] = 0.5f * v * (1 + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
  }
}

static void rotary(struct run *run, const struct op *op) {
  const struct matrix *at = arg(run, op, 2), *f = arg(run, op, 3), *axis = arg(run, op, 4);
  int half = f->cols, rows = at->cols;
  float *c = make(run, op->args[0], rows, 2 * half), *s = make(run, op->args[1], rows, 2 * half);
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < half; j++) {
      int row = (int)axis->v[j] < at->rows ? (int)axis->v[j] : 0;
      float angle = at->v[row * rows + i] * f->v[j];
      for (int k = 0; k < 2; k++) {
        c[i * 2 * half + k * half + j] = cosf(angle);
        s[i * 2 * half + k * half + j] = sinf(angle);
      }
    }
}

static void rope(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1), *c = arg(run, op, 2), *s = arg(run, op, 3);
  int width = x->cols / op->args[4];
  if (c->cols != width || c->rows != x->rows)
    die("rope: angles %d x %d for %d rows of %d", c->rows, c->cols, x->rows, width);
  float *out = make(run, op->args[0], x->rows, x->cols);
  for (int i = 0; i < x->rows; i++)
    for (int j = 0; j < x->cols; j++) {
      int k = j % width, base = i * x->cols + j - k;
      float other = k < width / 2 ? -x->v[base + k + width / 2] : x->v[base + k - width / 2];
      out[base + k] = x->v[base + k] * c->v[i * width + k] + other * s->v[i * width + k];
    }
}

static void attention(struct run *run, const struct op *op) {
  const struct matrix *q = arg(run, op, 1), *k = arg(run, op, 2), *v = arg(run, op, 3);
  const struct matrix *mask = op->args[4] < 0 ? NULL : arg(run, op, 4);
  int heads = op->args[5], group = heads / op->args[6], width = q->cols / heads;
  if (k->cols != width * op->args[6] || v->rows != k->rows) die("attention: shapes");
  if (mask != NULL && (mask->rows != q->rows || mask->cols != k->rows))
    die("attention: a mask %d x %d for %d rows and %d keys", mask->rows, mask->cols, q->rows, k->rows);
  float *out = make(run, op->args[0], q->rows, q->cols);
  float *score = malloc((size_t)k->rows * sizeof(float));
  for (int h = 0; h < heads; h++)
    for (int i = 0; i < q->rows; i++) {
      const float *a = q->v + i * q->cols + h * width;
      float max = -INFINITY, sum = 0;
      for (int j = 0; j < k->rows; j++) {
        const float *b = k->v + j * k->cols + h / group * width;
        float dot = 0;
        for (int l = 0; l < width; l++) dot += a[l] * b[l];
        score[j] = dot / sqrtf((float)width) + (mask ? mask->v[i * mask->cols + j] : 0);
        if (score[j] > max) max = score[j];
      }
      for (int j = 0; j < k->rows; j++) sum += score[j] = expf(score[j] - max);
      float *o = out + i * q->cols + h * width;
      for (int j = 0; j < k->rows; j++) {
        const float *b = v->v + j * v->cols + h / group * width;
        float weight = score[j] / sum;
        for (int l = 0; l < width; l++) o[l] += weight * b[l];
      }
    }
  free(score);
}

static void move(struct run *run, const struct op *op) {
  const struct matrix *x = arg(run, op, 1);
  if (strcmp(op->name, "append") == 0 || strcmp(op->name, "history") == 0) {
    const struct matrix *y = arg(run, op, 2);
    bool both = op->name[0] == 'a' || x->rows + y->rows == arg(run, op, 3)->cols;
    if (both && x->cols != y->cols) die("%s: %d and %d columns", op->name, x->cols, y->cols);
    int above = both ? x->rows : 0;
    float *out = make(run, op->args[0], above + y->rows, y->cols);
    memcpy(out, x->v, (size_t)(above * y->cols) * sizeof(float));
    memcpy(out + above * y->cols, y->v, (size_t)(y->rows * y->cols) * sizeof(float));
  } else if (strcmp(op->name, "gather") == 0) {
    const struct matrix *i = arg(run, op, 2);
    float *out = make(run, op->args[0], i->cols, x->cols);
    for (int k = 0; k < i->cols; k++)
      memcpy(out + k * x->cols, x->v + (int)i->v[k] * x->cols, (size_t)x->cols * sizeof(float));
  } else if (strcmp(op->name, "join") == 0) {
    float *out = make(run, op->args[0], x->rows / op->args[2], x->cols * op->args[2]);
    memcpy(out, x->v, (size_t)(x->rows * x->cols) * sizeof(float));
  } else if (strcmp(op->name, "columns") == 0) {
    int first = op->args[2], n = op->args[3];
    float *out = make(run, op->args[0], x->rows, n);
    for (int i = 0; i < x->rows; i++)
      memcpy(out + i * n, x->v + i * x->cols + first, (size_t)n * sizeof(float));
  } else if (strcmp(op->name, "cut") == 0) {
    int size = op->args[2], height = x->rows / 3, width = x->cols;
    float *out = make(run, op->args[0], height / size * (width / size), 3 * size * size);
    for (int py = 0; py < height / size; py++)
      for (int px = 0; px < width / size; px++)
        for (int c = 0; c < 3; c++)
          for (int y = 0; y < size; y++) {
            const float *line = x->v + (c * height + py * size + y) * width + px * size;
            memcpy(out, line, (size_t)size * sizeof(float));
            out += size;
          }
  } else {
    die("there is no operation %s", op->name);
  }
}

static const struct tensor *find(const struct tensor *list, uint32_t n, const char *name, uint32_t *at) {
  for (*at = 0; *at < n; ++*at) {
    const char *found = list[*at].name;
    size_t len = strlen(name);
    /* The compiler may add the group's number. */
    if (strncmp(found, name, len) == 0 && (found[len] == 0 || found[len] == '_') &&
        strspn(found + len, "_0123456789") == strlen(found + len))
      return &list[*at];
  }
  die("the net has no tensor %s", name);
}

/* What a language model's mask must be, and what the tests want to know of it. */
static void look_at_mask(const struct tensor *t, const uint16_t *mask) {
  long visible = 0, n = t->bytes / 2;
  for (long i = 0; i < n; i++) {
    if (mask[i] != 0 && mask[i] != 0xc780) die("mask: %#x is neither 0 nor -65536", mask[i]);
    visible += mask[i] == 0;
  }
  if (t->dims[1] != 1) return;
  if (mask[n - 1] != 0) die("mask: the token does not see itself, in the last column");
  for (long i = 0; i + 1 < n; i++)
    if ((mask[i] == 0) != (i < visible - 1)) die("mask: the rows before do not stand side by side");
  set_count("slot", visible - 1);
}

void net_run(const struct net *net, uint32_t group, const void *const *in, void *const *out) {
  const struct group *g = &net->groups[group];
  struct run *run = calloc(1, sizeof *run);
  for (uint32_t i = 0; i < g->n_in; i++) {
    if (strncmp(g->in[i].name, "mask", 4) == 0) look_at_mask(&g->in[i], in[i]);
    if (strncmp(g->in[i].name, "indices", 7) == 0 && g->in[i].bytes == 4)
      set_count("position", *(const uint32_t *)in[i]);
  }
  for (size_t i = 0; i < net->n_ops; i++) {
    const struct op *op = &net->ops[i];
    uint32_t at;
    if (strcmp(op->name, "const") == 0) {
      struct matrix *m = slot(run, op->args[0]);
      *m = (struct matrix){net->weights + op->args[3], NULL, op->args[1], op->args[2]};
    } else if (strcmp(op->name, "get") == 0) {
      const struct tensor *t = find(g->in, g->n_in, op->tensor, &at);
      get(run, op->args[0], t, in[at]);
    } else if (strcmp(op->name, "put") == 0) {
      const struct tensor *t = find(g->out, g->n_out, op->tensor, &at);
      put(arg(run, op, 0), t, out[at]);
    } else if (strcmp(op->name, "linear") == 0) {
      linear(run, op);
    } else if (strcmp(op->name, "add") == 0 || strcmp(op->name, "mul") == 0) {
      by_element(run, op, op->name[0] == 'm');
    } else if (strcmp(op->name, "rms") == 0) {
      rms(run, op);
    } else if (strcmp(op->name, "layer") == 0) {
      layer(run, op);
    } else if (strcmp(op->name, "silu") == 0 || strncmp(op->name, "gelu", 4) == 0) {
      activation(run, op);
    } else if (strcmp(op->name, "rotary") == 0) {
      rotary(run, op);
    } else if (strcmp(op->name, "rope") == 0) {
      rope(run, op);
    } else if (strcmp(op->name, "attention") == 0) {
      attention(run, op);
    } else {
      move(run, op);
    }
  }
  for (int i = 0; i < MAX_REGISTERS; i++) free(run->r[i].owned);
  free(run);
  count("runs", 1);
}
