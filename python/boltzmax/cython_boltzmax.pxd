# softmax and its family for Cython, at no Python cost:
#
#     from boltzmax.cython_boltzmax cimport softmax_f32
#
# Every function returns 0 or a Status: nothing is raised, and the interpreter is not needed. They
# are those of boltzmax/boltzmax.h, which says the rest: formulas, special values, threads, what may
# overlap. 16-bit floats are passed as their bits.

from libc.stdint cimport int64_t, intptr_t, uint16_t

cdef enum Status:
    OK = 0
    NULL_POINTER = 1
    BAD_SIZE = 2
    MISALIGNED = 3
    OVERLAP = 4
    BAD_TEMPERATURE = 5
    BAD_TARGET = 6
    BAD_OPTION = 7
    NO_MEMORY = 8
    FAILED = 9

cdef const char* status_text(int status) noexcept nogil
cdef int get_num_threads() noexcept nogil
cdef int set_num_threads(int n) noexcept nogil
cdef const char* isa() noexcept nogil
cdef int select_isa(const char* name) noexcept nogil
cdef const char* available_isa(int i) noexcept nogil

# x and y are `rows` contiguous rows of n elements; y may be x.
cdef int softmax_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil
cdef int softmax_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil
cdef int softmax_f16(const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y) noexcept nogil
cdef int softmax_bf16(const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y) noexcept nogil

cdef int log_softmax_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil
cdef int log_softmax_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil
cdef int log_softmax_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil
cdef int log_softmax_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil

# y has one element per row.
cdef int logsumexp_f32(const float* x, Py_ssize_t rows, Py_ssize_t n, float* y) noexcept nogil
cdef int logsumexp_f64(const double* x, Py_ssize_t rows, Py_ssize_t n, double* y) noexcept nogil
cdef int logsumexp_f16(const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y) noexcept nogil
cdef int logsumexp_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, uint16_t* y,
) noexcept nogil

# Of x / temperature.
cdef int softmax_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil
cdef int softmax_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil
cdef int softmax_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil
cdef int softmax_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil

cdef int log_softmax_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil
cdef int log_softmax_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil
cdef int log_softmax_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil
cdef int log_softmax_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil

cdef int logsumexp_at_f32(
    const float* x, Py_ssize_t rows, Py_ssize_t n, double temperature, float* y,
) noexcept nogil
cdef int logsumexp_at_f64(
    const double* x, Py_ssize_t rows, Py_ssize_t n, double temperature, double* y,
) noexcept nogil
cdef int logsumexp_at_f16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil
cdef int logsumexp_at_bf16(
    const uint16_t* x, Py_ssize_t rows, Py_ssize_t n, double temperature, uint16_t* y,
) noexcept nogil

# dx from dy and y; it may be either.
cdef int softmax_backward_f32(
    const float* dy, const float* y, Py_ssize_t rows, Py_ssize_t n, float* dx,
) noexcept nogil
cdef int softmax_backward_f64(
    const double* dy, const double* y, Py_ssize_t rows, Py_ssize_t n, double* dx,
) noexcept nogil
cdef int softmax_backward_f16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil
cdef int softmax_backward_bf16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil

cdef int log_softmax_backward_f32(
    const float* dy, const float* y, Py_ssize_t rows, Py_ssize_t n, float* dx,
) noexcept nogil
cdef int log_softmax_backward_f64(
    const double* dy, const double* y, Py_ssize_t rows, Py_ssize_t n, double* dx,
) noexcept nogil
cdef int log_softmax_backward_f16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil
cdef int log_softmax_backward_bf16(
    const uint16_t* dy, const uint16_t* y, Py_ssize_t rows, Py_ssize_t n, uint16_t* dx,
) noexcept nogil

# The losses, and `scale` times their gradient unless d_logits is NULL. Rows whose target is
# negative are left out.
cdef int cross_entropy_f32(
    const float* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, float* d_logits,
) noexcept nogil
cdef int cross_entropy_f64(
    const double* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, double* d_logits,
) noexcept nogil
cdef int cross_entropy_f16(
    const uint16_t* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, uint16_t* d_logits,
) noexcept nogil
cdef int cross_entropy_bf16(
    const uint16_t* logits, const int64_t* target, Py_ssize_t rows, Py_ssize_t n, double scale,
    double* loss, uint16_t* d_logits,
) noexcept nogil

# For scipy.LowLevelCallable.from_cython(boltzmax.cython_boltzmax, name), with scipy.ndimage's
# generic_filter and generic_filter1d: T log sum exp(x / T) of a moving window, a smooth maximum.
# The user data is T, a double, or none for 1. They return 1, or 0 for a failure, as SciPy wants it.
cdef int logsumexp_filter(
    double* window, intptr_t n, double* result, void* temperature,
) noexcept nogil
cdef int logsumexp_filter1d(
    double* line, intptr_t n, double* result, intptr_t results, void* temperature,
) noexcept nogil
