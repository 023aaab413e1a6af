# cython: language_level=3, freethreading_compatible=True, autotestdict=False
"""The kernels for Cython, Numba and scipy.LowLevelCallable: see boltzmax/cython_boltzmax.pxd.

Each function passes its arguments on to the table of `boltzmax._core`, so that there is one copy of
the kernels, of the threads and of the settings.
"""

from libc.stdint cimport int64_t, intptr_t, uint16_t

cdef extern from "boltzmax/boltzmax.h":
    ctypedef struct boltzmax_api:
        const char* (*status_text)(int) noexcept nogil
        int (*get_num_threads)() noexcept nogil
        int (*set_num_threads)(int) noexcept nogil
        const char* (*isa)() noexcept nogil
        int (*select_isa)(const char*) noexcept nogil
        const char* (*available_isa)(int) noexcept nogil
        int (*softmax_f32)(const float*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
        int (*softmax_f64)(const double*, Py_ssize_t, Py_ssize_t, double*) noexcept nogil
        int (*softmax_f16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*softmax_bf16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*log_softmax_f32)(const float*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
        int (*log_softmax_f64)(const double*, Py_ssize_t, Py_ssize_t, double*) noexcept nogil
        int (*log_softmax_f16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*log_softmax_bf16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*logsumexp_f32)(const float*, Py_ssize_t, Py_ssize_t, float*) noexcept nogil
        int (*logsumexp_f64)(const double*, Py_ssize_t, Py_ssize_t, double*) noexcept nogil
        int (*logsumexp_f16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*logsumexp_bf16)(const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*) noexcept nogil
        int (*softmax_at_f32)(const float*, Py_ssize_t, Py_ssize_t, double, float*) noexcept nogil
        int (*softmax_at_f64)(const double*, Py_ssize_t, Py_ssize_t, double, double*) noexcept nogil
        int (*softmax_at_f16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*softmax_at_bf16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*log_softmax_at_f32)(
            const float*, Py_ssize_t, Py_ssize_t, double, float*
        ) noexcept nogil
        int (*log_softmax_at_f64)(
            const double*, Py_ssize_t, Py_ssize_t, double, double*
        ) noexcept nogil
        int (*log_softmax_at_f16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*log_softmax_at_bf16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*logsumexp_at_f32)(const float*, Py_ssize_t, Py_ssize_t, double, float*) noexcept nogil
        int (*logsumexp_at_f64)(
            const double*, Py_ssize_t, Py_ssize_t, double, double*
        ) noexcept nogil
        int (*logsumexp_at_f16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*logsumexp_at_bf16)(
            const uint16_t*, Py_ssize_t, Py_ssize_t, double, uint16_t*
        ) noexcept nogil
        int (*softmax_backward_f32)(
            const float*, const float*, Py_ssize_t, Py_ssize_t, float*
        ) noexcept nogil
        int (*softmax_backward_f64)(
            const double*, const double*, Py_ssize_t, Py_ssize_t, double*
        ) noexcept nogil
        int (*softmax_backward_f16)(
            const uint16_t*, const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*
        ) noexcept nogil
        int (*softmax_backward_bf16)(
            const uint16_t*, const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*
        ) noexcept nogil
        int (*log_softmax_backward_f32)(
            const float*, const float*, Py_ssize_t, Py_ssize_t, float*
        ) noexcept nogil
        int (*log_softmax_backward_f64)(
            const double*, const double*, Py_ssize_t, Py_ssize_t, double*
        ) noexcept nogil
        int (*log_softmax_backward_f16)(
            const uint16_t*, const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*
        ) noexcept nogil
        int (*log_softmax_backward_bf16)(
            const uint16_t*, const uint16_t*, Py_ssize_t, Py_ssize_t, uint16_t*
        ) noexcept nogil
        int (*cross_entropy_f32)(
            const float*, const int64_t*, Py_ssize_t, Py_ssize_t, double, double*, float*
        ) noexcept nogil
        int (*cross_entropy_f64)(
            const double*, const int64_t*, Py_ssize_t, Py_ssize_t, double, double*, double*
        ) noexcept nogil
        int (*cross_entropy_f16)(
            const uint16_t*, const int64_t*, Py_ssize_t, Py_ssize_t, double, double*, uint16_t*
        ) noexcept nogil
        int (*cross_entropy_bf16)(
            const uint16_t*, const int64_t*, Py_ssize_t, Py_ssize_t, double, double*, uint16_t*
        ) noexcept nogil

    const boltzmax_api* boltzmax_import() except NULL

cdef const boltzmax_api* api = boltzmax_import()


cdef const char* status_text(int status) noexcept nogil:
    return api.status_text(status)


cdef int get_num_threads() noexcept nogil:
    return api.get_num_threads()


cdef int set_num_threads(int n) noexcept nogil:
    return api.set_num_threads(n)


cdef const char* isa() noexcept nogil:
    return api.isa()


cdef int select_isa(const char* name) noexcept nogil:
    return api.select_isa(name)


cdef const char* available_isa(int i) noexcept nogil:
    return api.available_isa(i)


cdef int softmax_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil:
    return api.softmax_f32(x, rows, n, y)


cdef int softmax_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil:
    return api.softmax_f64(x, rows, n, y)


cdef int softmax_f16(const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y) noexcept nogil:
    return api.softmax_f16(x, rows, n, y)


cdef int softmax_bf16(const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y) noexcept nogil:
    return api.softmax_bf16(x, rows, n, y)


cdef int log_softmax_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil:
    return api.log_softmax_f32(x, rows, n, y)


cdef int log_softmax_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil:
    return api.log_softmax_f64(x, rows, n, y)


cdef int log_softmax_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil:
    return api.log_softmax_f16(x, rows, n, y)


cdef int log_softmax_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil:
    return api.log_softmax_bf16(x, rows, n, y)


cdef int logsumexp_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil:
    return api.logsumexp_f32(x, rows, n, y)


cdef int logsumexp_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil:
    return api.logsumexp_f64(x, rows, n, y)


cdef int logsumexp_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil:
    return api.logsumexp_f16(x, rows, n, y)


cdef int logsumexp_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil:
    return api.logsumexp_bf16(x, rows, n, y)


cdef int softmax_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil:
    return api.softmax_at_f32(x, rows, n, temperature, y)


cdef int softmax_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil:
    return api.softmax_at_f64(x, rows, n, temperature, y)


cdef int softmax_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.softmax_at_f16(x, rows, n, temperature, y)


cdef int softmax_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.softmax_at_bf16(x, rows, n, temperature, y)


cdef int log_softmax_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil:
    return api.log_softmax_at_f32(x, rows, n, temperature, y)


cdef int log_softmax_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil:
    return api.log_softmax_at_f64(x, rows, n, temperature, y)


cdef int log_softmax_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.log_softmax_at_f16(x, rows, n, temperature, y)


cdef int log_softmax_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.log_softmax_at_bf16(x, rows, n, temperature, y)


cdef int logsumexp_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil:
    return api.logsumexp_at_f32(x, rows, n, temperature, y)


cdef int logsumexp_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil:
    return api.logsumexp_at_f64(x, rows, n, temperature, y)


cdef int logsumexp_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.logsumexp_at_f16(x, rows, n, temperature, y)


cdef int logsumexp_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil:
    return api.logsumexp_at_bf16(x, rows, n, temperature, y)


cdef int softmax_backward_f32(
    const float* dy, const float* y, Py_ssize_t rows, Py_ssize_t n, float* dx,
) noexcept nogil:
    return api.softmax_backward_f32(dy, y, rows, n, dx)


cdef int softmax_backward_f64(
    const double* dy, const double* y, Py_ssize_t rows, Py_ssize_t n, double* dx,
) noexcept nogil:
    return api.softmax_backward_f64(dy, y, rows, n, dx)


cdef int softmax_backward_f16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil:
    return api.softmax_backward_f16(dy, y, rows, n, dx)


cdef int softmax_backward_bf16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil:
    return api.softmax_backward_bf16(dy, y, rows, n, dx)


cdef int log_softmax_backward_f32(
    const float* dy, const float* y, Py_ssize_t rows, Py_ssize_t n, float* dx,
) noexcept nogil:
    return api.log_softmax_backward_f32(dy, y, rows, n, dx)


cdef int log_softmax_backward_f64(
    const double* dy, const double* y, Py_ssize_t rows, Py_ssize_t n, double* dx,
) noexcept nogil:
    return api.log_softmax_backward_f64(dy, y, rows, n, dx)


cdef int log_softmax_backward_f16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil:
    return api.log_softmax_backward_f16(dy, y, rows, n, dx)


cdef int log_softmax_backward_bf16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil:
    return api.log_softmax_backward_bf16(dy, y, rows, n, dx)


cdef int cross_entropy_f32(
    const float* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, float* d_logits,
) noexcept nogil:
    return api.cross_entropy_f32(logits, target, rows, n, scale, loss, d_logits)


cdef int cross_entropy_f64(
    const double* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, double* d_logits,
) noexcept nogil:
    return api.cross_entropy_f64(logits, target, rows, n, scale, loss, d_logits)


cdef int cross_entropy_f16(
    const uint16_t* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, uint16_t* d_logits,
) noexcept nogil:
    return api.cross_entropy_f16(logits, target, rows, n, scale, loss, d_logits)


cdef int cross_entropy_bf16(
    const uint16_t* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, uint16_t* d_logits,
) noexcept nogil:
    return api.cross_entropy_bf16(logits, target, rows, n, scale, loss, d_logits)


cdef int logsumexp_filter(
    double* window, intptr_t n, double* result, void* temperature,
) noexcept nogil:
    cdef double t = 1.0 if temperature == NULL else (<double*>temperature)[0]
    if api.logsumexp_at_f64(window, 1, n, t, result) != 0:
        return 0
    result[0] *= t
    return 1


cdef int logsumexp_filter1d(
    double* line, intptr_t n, double* result, intptr_t results, void* temperature,
) noexcept nogil:
    cdef intptr_t i
    for i in range(results):
        if not logsumexp_filter(line + i, n - results + 1, result + i, temperature):
            return 0
    return 1
