// One call of the C interface each: its arguments come from the fuzzer, its results are compared with the reference, on
// every instruction set.
#pragma once

#include <boltzmax/boltzmax.h>

#include "bytes.hpp"

namespace boltzmax::fuzz {

void StridedCall(const boltzmax_api& api, Bytes& bytes);
void StridedBackwardCall(const boltzmax_api& api, Bytes& bytes);
void RowsCall(const boltzmax_api& api, Bytes& bytes);
void BackwardCall(const boltzmax_api& api, Bytes& bytes);
void CrossEntropyCall(const boltzmax_api& api, Bytes& bytes);
// A call with an invalid argument: it must return an error and write nothing.
void WrongCall(const boltzmax_api& api, Bytes& bytes);

// Ends the run, and reports what was wrong.
[[noreturn]] void Fail(const char* what, const char* isa, int dtype, size_t index, long double got, long double wanted);

// Calls f(isa) with each instruction set in use.
template <class F>
void OnEveryIsa(const boltzmax_api& api, F f) {
  for (int i = 0; api.available_isa(i) != nullptr; ++i) {
    const char* isa = api.available_isa(i);
    if (api.select_isa(isa) != BOLTZMAX_OK) Fail("select_isa", isa, 0, 0, 0, 0);
    f(isa);
  }
}

inline void RequireOk(int status, const char* what, const char* isa, int dtype) {
  if (status != BOLTZMAX_OK) Fail(what, isa, dtype, 0, status, BOLTZMAX_OK);
}

// Calls f with one of the four functions of a family and a pointer to its element type.
template <class A, class B, class C, class F>
int Pick(int dtype, A f32, B f64, C f16, C bf16, F f) {
  switch (dtype) {
    case BOLTZMAX_FLOAT32: return f(f32, static_cast<float*>(nullptr));
    case BOLTZMAX_FLOAT64: return f(f64, static_cast<double*>(nullptr));
    case BOLTZMAX_FLOAT16: return f(f16, static_cast<uint16_t*>(nullptr));
    default: return f(bf16, static_cast<uint16_t*>(nullptr));
  }
}
#define BOLTZMAX_PICK(api, dtype, name, f) \
  Pick(dtype, api.name##_f32, api.name##_f64, api.name##_f16, api.name##_bf16, f)

}  // namespace boltzmax::fuzz
