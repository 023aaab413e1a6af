/* softmax and its family on memory: the C interface of boltzmax, in C99 and C++.
 *
 * From an extension module of Python, which shares kernels, threads and settings with the Python package:
 *
 *     #include <Python.h>
 *     #include <boltzmax/boltzmax.h>          // -I$(python -c "import boltzmax; print(boltzmax.get_include())")
 *     const boltzmax_api* bm = boltzmax_import();                     // once; NULL with ImportError set
 *     int status = bm->softmax_f32(x, rows, n, y);
 *
 * From a program without Python, linked to the library that `cmake --install` leaves:
 *
 *     const boltzmax_api* bm = boltzmax_get_api(BOLTZMAX_ABI_VERSION);   // then boltzmax_fits(bm)
 *
 * Rules for every function in the table:
 *
 * - It returns BOLTZMAX_OK or the status of an error; it throws nothing, prints nothing and ends no process. Errors in
 *   the arguments are found before anything is written.
 * - A result may be an operand of the same shape and type, element for element; every other overlap is refused
 *   (BOLTZMAX_OVERLAP). With strides, overlap is not detected, and such results are unspecified.
 * - NULL is refused for memory that has elements. Sizes may be 0.
 * - Pointers to elements are aligned to them, else BOLTZMAX_MISALIGNED. With strides x, y, dy and dx need not be.
 * - NaN and infinities are data; README.md has the table of special values.
 * - It may be called from any number of threads at once, without Python's lock, and after fork in parent and child.
 *   Large calls use a pool of threads, which serves one caller at a time; meanwhile, others run on their own thread.
 * - On one instruction set, the bits of a row do not depend on threads, batch, strides or alignment.
 *
 * Versions: BOLTZMAX_ABI_VERSION changes when anything existing changes. Within a version, entries are only added, at
 * the end of a struct: a table serves every header whose struct is no larger than its own (boltzmax_fits).
 */
#ifndef BOLTZMAX_H
#define BOLTZMAX_H

#include <stddef.h>
#include <stdint.h>

#include "version.h"

#define BOLTZMAX_ABI_VERSION 1

#ifndef BOLTZMAX_PUBLIC
#if defined(__GNUC__)
#define BOLTZMAX_PUBLIC __attribute__((visibility("default")))
#else
#define BOLTZMAX_PUBLIC
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum boltzmax_status {
  BOLTZMAX_OK = 0,
  BOLTZMAX_NULL_POINTER = 1,
  BOLTZMAX_BAD_SIZE = 2, /* negative, or more than memory can hold */
  BOLTZMAX_MISALIGNED = 3,
  BOLTZMAX_OVERLAP = 4,
  BOLTZMAX_BAD_TEMPERATURE = 5, /* not from 1e-30 to 1e30 */
  BOLTZMAX_BAD_TARGET = 6,      /* not a class */
  BOLTZMAX_BAD_OPTION = 7,      /* an unknown operation, type, axis, instruction set or number of threads */
  BOLTZMAX_NO_MEMORY = 8,
  BOLTZMAX_FAILED = 9 /* another request to the system failed */
};

/* Element types. Results are of one of the first four; the others are converted as they are read. 16-bit floats are
 * passed as their bits and computed in float. A bool is a byte, 0 or 1. */
enum boltzmax_dtype {
  BOLTZMAX_FLOAT32 = 0,
  BOLTZMAX_FLOAT64 = 1,
  BOLTZMAX_FLOAT16 = 2,
  BOLTZMAX_BFLOAT16 = 3,
  BOLTZMAX_BOOL = 4,
  BOLTZMAX_INT8 = 5,
  BOLTZMAX_UINT8 = 6,
  BOLTZMAX_INT16 = 7,
  BOLTZMAX_UINT16 = 8,
  BOLTZMAX_INT32 = 9,
  BOLTZMAX_UINT32 = 10,
  BOLTZMAX_INT64 = 11,
  BOLTZMAX_UINT64 = 12
};

enum boltzmax_operation { BOLTZMAX_SOFTMAX = 0, BOLTZMAX_LOG_SOFTMAX = 1, BOLTZMAX_LOGSUMEXP = 2 };

#define BOLTZMAX_MAX_DIMENSIONS 64

/* y = operation(x / temperature) along some axes of arrays of any layout; elements whose mask is 0 do not count.
 * Strides are in bytes and may be negative or 0, but those of y must give every element a distinct address. */
typedef struct boltzmax_strided {
  size_t size;       /* sizeof(boltzmax_strided) */
  int32_t operation; /* boltzmax_operation */
  int32_t x_dtype;   /* boltzmax_dtype */
  int32_t y_dtype;   /* FLOAT32, FLOAT64, FLOAT16 or BFLOAT16; x is converted to it first */
  int32_t ndim;      /* 0 to BOLTZMAX_MAX_DIMENSIONS */
  uint64_t axes;     /* bit d is set if the operation runs along axis d; several axes make one row */
  const ptrdiff_t* shape;
  const void* x;
  const ptrdiff_t* x_strides;
  void* y;
  const ptrdiff_t* y_strides; /* ndim of them; for logsumexp those of the axes above are ignored */
  const uint8_t* mask;        /* NULL for none */
  const ptrdiff_t* mask_strides;
  const double* temperature;            /* aligned; NULL for 1 */
  const ptrdiff_t* temperature_strides; /* those of the axes above are ignored; NULL: one for all */
} boltzmax_strided;

/* dx = the gradient with respect to x of softmax or log_softmax along some axes, from dy and y. */
typedef struct boltzmax_strided_backward {
  size_t size;       /* sizeof(boltzmax_strided_backward) */
  int32_t operation; /* BOLTZMAX_SOFTMAX or BOLTZMAX_LOG_SOFTMAX */
  int32_t dtype;     /* of all three: FLOAT32, FLOAT64, FLOAT16 or BFLOAT16 */
  int32_t ndim;
  int32_t reserved; /* 0 */
  uint64_t axes;
  const ptrdiff_t* shape;
  const void* dy;
  const ptrdiff_t* dy_strides;
  const void* y;
  const ptrdiff_t* y_strides;
  void* dx;
  const ptrdiff_t* dx_strides;
} boltzmax_strided_backward;

typedef struct boltzmax_api {
  uint32_t abi_version; /* the library's BOLTZMAX_ABI_VERSION */
  uint32_t size;        /* of the library's struct, in bytes */
  const char* version;  /* of the library, such as "0.1.0" */

  /* ---- state: one per process, shared with the Python package if the table comes from it ---- */

  /* The text of a status; never NULL. */
  const char* (*status_text)(int status);
  /* The number of threads that a large call may use: initially BOLTZMAX_NUM_THREADS, else OMP_NUM_THREADS, else the
   * CPUs that the affinity mask and the container's quota allow. From 1 to 65536. */
  int (*get_num_threads)(void);
  int (*set_num_threads)(int n);
  /* The instruction set whose kernels run: the best, unless BOLTZMAX_ISA or select_isa names another. */
  const char* (*isa)(void);
  int (*select_isa)(const char* name);
  /* The i-th that this processor supports, best first; NULL beyond the last. */
  const char* (*available_isa)(int i);

  /* ---- contiguous rows: `rows` of them, of n elements each, one after another ---- */

  /* y[r, i] = exp(x[r, i]) / sum_j exp(x[r, j]) */
  int (*softmax_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, float* y);
  int (*softmax_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double* y);
  int (*softmax_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);
  int (*softmax_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);

  /* y[r, i] = x[r, i] - log sum_j exp(x[r, j]) */
  int (*log_softmax_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, float* y);
  int (*log_softmax_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double* y);
  int (*log_softmax_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);
  int (*log_softmax_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);

  /* y[r] = log sum_j exp(x[r, j]), -inf for n = 0. y must not overlap x. */
  int (*logsumexp_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, float* y);
  int (*logsumexp_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double* y);
  int (*logsumexp_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);
  int (*logsumexp_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, uint16_t* y);

  /* The same three of x / temperature. */
  int (*softmax_at_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, double temperature, float* y);
  int (*softmax_at_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double temperature, double* y);
  int (*softmax_at_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);
  int (*softmax_at_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);
  int (*log_softmax_at_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, double temperature, float* y);
  int (*log_softmax_at_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double temperature, double* y);
  int (*log_softmax_at_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);
  int (*log_softmax_at_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);
  int (*logsumexp_at_f32)(const float* x, ptrdiff_t rows, ptrdiff_t n, double temperature, float* y);
  int (*logsumexp_at_f64)(const double* x, ptrdiff_t rows, ptrdiff_t n, double temperature, double* y);
  int (*logsumexp_at_f16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);
  int (*logsumexp_at_bf16)(const uint16_t* x, ptrdiff_t rows, ptrdiff_t n, double temperature, uint16_t* y);

  /* dx[r, i] = y[r, i] (dy[r, i] - sum_j dy[r, j] y[r, j]), where y is softmax's result. With a temperature, divide dx
   * by it. dx may be dy or y. */
  int (*softmax_backward_f32)(const float* dy, const float* y, ptrdiff_t rows, ptrdiff_t n, float* dx);
  int (*softmax_backward_f64)(const double* dy, const double* y, ptrdiff_t rows, ptrdiff_t n, double* dx);
  int (*softmax_backward_f16)(const uint16_t* dy, const uint16_t* y, ptrdiff_t rows, ptrdiff_t n, uint16_t* dx);
  int (*softmax_backward_bf16)(const uint16_t* dy, const uint16_t* y, ptrdiff_t rows, ptrdiff_t n, uint16_t* dx);

  /* dx[r, i] = dy[r, i] - exp(y[r, i]) sum_j dy[r, j], where y is log_softmax's result. dx may be dy or y. */
  int (*log_softmax_backward_f32)(const float* dy, const float* y, ptrdiff_t rows, ptrdiff_t n, float* dx);
  int (*log_softmax_backward_f64)(const double* dy, const double* y, ptrdiff_t rows, ptrdiff_t n, double* dx);
  int (*log_softmax_backward_f16)(const uint16_t* dy, const uint16_t* y, ptrdiff_t rows, ptrdiff_t n, uint16_t* dx);
  int (*log_softmax_backward_bf16)(const uint16_t* dy, const uint16_t* y, ptrdiff_t rows, ptrdiff_t n, uint16_t* dx);

  /* loss[r] = logsumexp(logits[r]) - logits[r, target[r]], and d_logits[r] = scale (softmax(logits[r]) - [j = target]):
   * scale is 1 for the sum of the losses, 1 / rows for their mean. A row whose target is negative is ignored: its loss
   * and gradient are 0. d_logits may be NULL, or logits; loss must not overlap either. */
  int (*cross_entropy_f32)(const float* logits, const int64_t* target, ptrdiff_t rows, ptrdiff_t n, double scale,
                           double* loss, float* d_logits);
  int (*cross_entropy_f64)(const double* logits, const int64_t* target, ptrdiff_t rows, ptrdiff_t n, double scale,
                           double* loss, double* d_logits);
  int (*cross_entropy_f16)(const uint16_t* logits, const int64_t* target, ptrdiff_t rows, ptrdiff_t n, double scale,
                           double* loss, uint16_t* d_logits);
  int (*cross_entropy_bf16)(const uint16_t* logits, const int64_t* target, ptrdiff_t rows, ptrdiff_t n, double scale,
                            double* loss, uint16_t* d_logits);

  /* ---- arrays of any layout ---- */

  int (*run_strided)(const boltzmax_strided* call);
  int (*run_strided_backward)(const boltzmax_strided_backward* call);
} boltzmax_api;

/* The table of the linked library; NULL for an ABI version that it does not have, or if BOLTZMAX_ISA names an
 * instruction set that is not available. The extension module of the Python package does not export it. */
BOLTZMAX_PUBLIC const boltzmax_api* boltzmax_get_api(uint32_t abi_version);

/* Whether a table has every entry that this header declares. */
static inline int boltzmax_fits(const boltzmax_api* api) {
  return api != NULL && api->abi_version == BOLTZMAX_ABI_VERSION && api->size >= sizeof(boltzmax_api);
}

#if defined(Py_PYTHON_H) /* Python.h was included before */

#define BOLTZMAX_CAPSULE "boltzmax._core._C_API"

/* The table of the Python package. The thread must hold the GIL, for this call only. */
static inline const boltzmax_api* boltzmax_import(void) {
  const boltzmax_api* api = (const boltzmax_api*)PyCapsule_Import(BOLTZMAX_CAPSULE, 0);
  if (api == NULL) {
    if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
      PyErr_SetString(PyExc_ImportError, "the boltzmax that is installed has no C interface");
    }
    return NULL;
  }
  if (!boltzmax_fits(api)) {
    PyErr_Format(PyExc_ImportError,
                 "compiled for boltzmax's C ABI %u of at least %u bytes, but boltzmax %s has ABI %u of %u bytes",
                 (unsigned)BOLTZMAX_ABI_VERSION, (unsigned)sizeof(boltzmax_api), api->version,
                 (unsigned)api->abi_version, (unsigned)api->size);
    return NULL;
  }
  return api;
}

#endif

#ifdef __cplusplus
}
#endif

#endif
