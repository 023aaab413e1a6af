// The C interface of include/boltzmax/boltzmax.h: what its entries share.
#pragma once

#include <new>

#include "../../include/boltzmax/boltzmax.h"

namespace boltzmax {

inline constexpr double kLeastTemperature = 1e-30, kMostTemperature = 1e30;
inline bool IsTemperature(double t) { return t >= kLeastTemperature && t <= kMostTemperature; }

// Runs f; returns a status instead of throwing, since C cannot catch exceptions.
template <class F>
int Guarded(F f) noexcept {
  try {
    f();
    return BOLTZMAX_OK;
  } catch (const std::bad_alloc&) {
    return BOLTZMAX_NO_MEMORY;
  } catch (...) {
    return BOLTZMAX_FAILED;
  }
}

int RunStrided(const boltzmax_strided* call) noexcept;
int RunStridedBackward(const boltzmax_strided_backward* call) noexcept;

}  // namespace boltzmax
