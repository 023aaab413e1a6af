// The one list of operations on rows and of the types that rows are stored in. Enums, kernel tables, C entries and
// Python's methods are expanded from it; tests/operations.py reads it. cpp/README.md explains how to add one.
#pragma once

#include <stddef.h>

// F(name, Name, kind, needs, ...) for every operation:
//
//     name   of the public function; its gradient is name_backward, its C entries are name_f32, name_at_f32 and so on
//     Name   in the code: kName here, and in kernels/ NameOp, NameStrip, and NameGradient; a map's panels are
//            NameTransposed and NameAlong, a reduction's NamePanels
//     kind   kMap or kMapWithGradient: a result for each element; kReduction: one for each row
//     needs  of a row to compute the result: kSum of its exponentials, which are kept to be divided by it, or kLogSum
//
// New ones go at the end: the order is that of boltzmax_operation in the C interface.
#define BOLTZMAX_FOR_EACH_OPERATION(F, ...)                          \
  F(softmax, Softmax, kMapWithGradient, kSum, __VA_ARGS__)           \
  F(log_softmax, LogSoftmax, kMapWithGradient, kLogSum, __VA_ARGS__) \
  F(logsumexp, LogSumExp, kReduction, kLogSum, __VA_ARGS__)

// F(name, Name) for every operation that has a gradient.
#define BOLTZMAX_FOR_EACH_GRADIENT(F) BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_IF_GRADIENT, F)
#define BOLTZMAX_IF_GRADIENT(name, Name, kind, needs, F) BOLTZMAX_IF_##kind(F, name, Name)
#define BOLTZMAX_IF_kMapWithGradient(F, name, Name) F(name, Name)
#define BOLTZMAX_IF_kMap(F, name, Name)
#define BOLTZMAX_IF_kReduction(F, name, Name)

// F(suffix, Storage, kDType, ...) for every type that has kernels: its suffix in C and in kernel tables, its struct or
// type in kernels/, and its number, a DType. BOLTZMAX_MEMBER declares a member for each, BOLTZMAX_VALUE initializes it.
#define BOLTZMAX_FOR_EACH_STORAGE(F, ...) \
  F(f32, float, kFloat32, __VA_ARGS__)    \
  F(f64, double, kFloat64, __VA_ARGS__)   \
  F(f16, Half, kFloat16, __VA_ARGS__)     \
  F(bf16, BFloat16, kBFloat16, __VA_ARGS__)

#define BOLTZMAX_MEMBER(suffix, Storage, kDType, Type) Type suffix;
#define BOLTZMAX_VALUE(suffix, Storage, kDType, value) .suffix = value<Storage>,

namespace boltzmax {

#define BOLTZMAX_ENUMERATOR(name, Name, ...) k##Name,
enum class Op { BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_ENUMERATOR) };
#undef BOLTZMAX_ENUMERATOR

enum class OpKind { kMap, kMapWithGradient, kReduction };
enum class OpNeeds { kSum, kLogSum };
struct OpTraits {
  const char* name;
  const char* name_of_gradient;  // or null
  OpKind kind;
  OpNeeds needs;
};

#define BOLTZMAX_TRAITS(name, Name, kind, needs, ...) \
  {#name, OpKind::kind == OpKind::kMapWithGradient ? #name "_backward" : nullptr, OpKind::kind, OpNeeds::needs},
inline constexpr OpTraits kOps[] = {BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_TRAITS)};
#undef BOLTZMAX_TRAITS
inline constexpr size_t kOpCount = sizeof kOps / sizeof *kOps;

constexpr const OpTraits& TraitsOf(Op op) { return kOps[static_cast<size_t>(op)]; }
constexpr bool Reduces(Op op) { return TraitsOf(op).kind == OpKind::kReduction; }
constexpr bool HasGradient(Op op) { return TraitsOf(op).name_of_gradient != nullptr; }
constexpr bool NeedsLogSum(Op op) { return TraitsOf(op).needs == OpNeeds::kLogSum; }

}  // namespace boltzmax
