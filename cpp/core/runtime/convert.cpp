#include "convert.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "../../kernels/half.hpp"

namespace boltzmax {

namespace {

template <class S>
S ReadUnaligned(const char* p) {
  S value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// x in float, rounded to odd: rounding that to a narrower type equals rounding x once (Boldo & Melquiond, "When double
// rounding is odd", IMACS 2005).
float RoundToOdd(double x) {
  const auto nearest = static_cast<float>(x);
  const auto bits = std::bit_cast<uint32_t>(nearest);
  if (static_cast<double>(nearest) == x || std::isnan(x) || (bits & 1) != 0) return nearest;
  return std::bit_cast<float>(std::fabs(static_cast<double>(nearest)) > std::fabs(x) ? bits - 1 : bits + 1);
}

template <class S>
constexpr bool Is16Bits = std::is_same_v<S, Half> || std::is_same_v<S, BFloat16>;

// The conversions of the active ISA, for contiguous and aligned elements.
template <class S>
const ConversionKernels<S>& ConversionsOf() {
  if constexpr (std::is_same_v<S, Half>) return ActiveConversions().f16;
  else return ActiveConversions().bf16;
}
template <class S>
bool IsContiguous(const char* p, ptrdiff_t stride) {
  return stride == static_cast<ptrdiff_t>(sizeof(S)) && reinterpret_cast<uintptr_t>(p) % alignof(S) == 0;
}

template <class To, class From>
To Convert(From x) {
  if constexpr (Is16Bits<From>) {
    if constexpr (std::is_same_v<From, To>) return x;
    else return Convert<To>(ToFloat(x));
  } else if constexpr (std::is_same_v<To, Half> && std::is_same_v<From, double>) {
    return ToHalf(RoundToOdd(x));
  } else if constexpr (std::is_same_v<To, Half>) {
    return ToHalf(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return ToBFloat16(static_cast<float>(x));
  } else {
    return static_cast<To>(x);
  }
}

template <class From, class To>
void GatherAs(const char* x, ptrdiff_t stride, size_t n, void* out) {
  To* to = static_cast<To*>(out);
  if (std::is_same_v<From, To> && stride == static_cast<ptrdiff_t>(sizeof(From))) {
    std::memcpy(to, x, n * sizeof(From));
    return;
  }
  if constexpr (Is16Bits<From> && std::is_same_v<To, float>) {
    if (IsContiguous<From>(x, stride)) return ConversionsOf<From>().widen(reinterpret_cast<const From*>(x), n, to);
  }
  if (stride == 0 && n > 0) {
    std::fill_n(to, n, Convert<To>(ReadUnaligned<From>(x)));
    return;
  }
  const auto convert = [&](ptrdiff_t step) {
    for (size_t i = 0; i < n; ++i) to[i] = Convert<To>(ReadUnaligned<From>(x + static_cast<ptrdiff_t>(i) * step));
  };
  if (stride == static_cast<ptrdiff_t>(sizeof(From)))
    convert(sizeof(From));  // a constant, so that the compiler vectorizes
  else convert(stride);
}

void GatherBools(const char* x, ptrdiff_t stride, size_t n, void* out) {
  GatherAs<uint8_t, uint8_t>(x, stride, n, out);
}

template <class S>
void ScatterAs(const void* in, size_t n, char* y, ptrdiff_t stride) {
  const S* from = static_cast<const S*>(in);
  for (size_t i = 0; i < n; ++i) std::memcpy(y + static_cast<ptrdiff_t>(i) * stride, from + i, sizeof(S));
}

template <class S>
void NarrowAs(const void* in, size_t n, char* y, ptrdiff_t stride) {
  const auto* from = static_cast<const float*>(in);
  if (IsContiguous<S>(y, stride)) return ConversionsOf<S>().narrow(from, n, reinterpret_cast<S*>(y));
  for (size_t i = 0; i < n; ++i) {
    const S value = Convert<S>(from[i]);
    std::memcpy(y + static_cast<ptrdiff_t>(i) * stride, &value, sizeof value);
  }
}

template <class To>
GatherFn GatherTo(DType from) {
  switch (from) {
    case DType::kFloat32: return GatherAs<float, To>;
    case DType::kFloat64: return GatherAs<double, To>;
    case DType::kFloat16: return GatherAs<Half, To>;
    case DType::kBFloat16: return GatherAs<BFloat16, To>;
    case DType::kBool:
    case DType::kUInt8: return GatherAs<uint8_t, To>;
    case DType::kInt8: return GatherAs<int8_t, To>;
    case DType::kInt16: return GatherAs<int16_t, To>;
    case DType::kUInt16: return GatherAs<uint16_t, To>;
    case DType::kInt32: return GatherAs<int32_t, To>;
    case DType::kUInt32: return GatherAs<uint32_t, To>;
    case DType::kInt64: return GatherAs<int64_t, To>;
    case DType::kUInt64: return GatherAs<uint64_t, To>;
  }
  throw std::logic_error("unknown element type");
}

}  // namespace

GatherFn Gather(DType from, DType storage) {
  switch (storage) {
    case DType::kFloat32: return GatherTo<float>(from);
    case DType::kFloat64: return GatherTo<double>(from);
    case DType::kFloat16: return GatherTo<Half>(from);
    case DType::kBFloat16: return GatherTo<BFloat16>(from);
    case DType::kBool: return GatherBools;
    default: throw std::logic_error("not a storage type");
  }
}

ScatterFn Scatter(DType storage) {
  switch (storage) {
    case DType::kFloat32: return ScatterAs<float>;
    case DType::kFloat64: return ScatterAs<double>;
    case DType::kFloat16: return ScatterAs<Half>;
    case DType::kBFloat16: return ScatterAs<BFloat16>;
    default: throw std::logic_error("not a storage type");
  }
}

ScatterFn ScatterComputed(DType storage) {
  switch (storage) {
    case DType::kFloat16: return NarrowAs<Half>;
    case DType::kBFloat16: return NarrowAs<BFloat16>;
    default: return Scatter(storage);
  }
}

void GatherLine(GatherFn gather, const Axes& axes, Operand k, const char* base, size_t begin, size_t n, size_t item,
                void* out) {
  char* to = static_cast<char*>(out);
  ForEachRun(axes, begin, begin + n, [&](const Offsets& at, size_t run, const Offsets& stride, size_t done) {
    gather(base + at[k], stride[k], run, to + done * item);
  });
}

void ScatterLine(ScatterFn scatter, const Axes& axes, Operand k, char* base, size_t begin, size_t n, size_t item,
                 const void* in) {
  const char* from = static_cast<const char*>(in);
  ForEachRun(axes, begin, begin + n, [&](const Offsets& at, size_t run, const Offsets& stride, size_t done) {
    scatter(from + done * item, run, base + at[k], stride[k]);
  });
}

}  // namespace boltzmax
