// Maps that replace the exponential of softmax by another function: taylor_softmax, spherical_softmax, sigsoftmax.
#pragma once

#include "sigsoftmax.hpp"
#include "taylor.hpp"

namespace boltzmax::kernels {
namespace {

template <class S>
inline void TaylorSoftmax(const RowCall& call) {
  call.options.count == 2 ? WeightMap<QuadraticWeights, S>(call) : WeightMap<PolynomialWeights, S>(call);
}
template <class S>
inline void LogTaylorSoftmax(const RowCall& call) {
  WeightLogMap<PolynomialWeights, S>(call);
}
template <class S>
inline void TaylorSoftmaxBackward(const RowCall& call) {
  WeightGradient<PolynomialWeights, false, S>(call);
}
template <class S>
inline void LogTaylorSoftmaxBackward(const RowCall& call) {
  WeightGradient<PolynomialWeights, true, S>(call);
}

// As taylor_softmax of order 2 at temperature 0.
template <class S>
inline void SphericalSoftmaxBackward(const RowCall& call) {
  WeightGradient<QuadraticWeights, false, S>(call);
}

template <class S>
inline void Sigsoftmax(const RowCall& call) {
  call.batch.scaled ? WeightMap<ScaledSigsoftmax, S>(call) : WeightMap<UnscaledSigsoftmax, S>(call);
}
template <class S>
inline void LogSigsoftmax(const RowCall& call) {
  call.batch.scaled ? WeightLogMap<ScaledSigsoftmax, S>(call) : WeightLogMap<UnscaledSigsoftmax, S>(call);
}
template <class S>
inline void SigsoftmaxBackward(const RowCall& call) {
  WeightGradient<ScaledSigsoftmax, false, S>(call);
}
template <class S>
inline void LogSigsoftmaxBackward(const RowCall& call) {
  WeightGradient<ScaledSigsoftmax, true, S>(call);
}

#define BOLTZMAX_SHAPE(name_of, Kernel, has_second, cost_of) \
  {.name = name_of,                                          \
   .has_other = has_second,                                  \
   .reduces = false,                                         \
   .scratch = NoScratch,                                     \
   .cost = cost_of,                                          \
   BOLTZMAX_ROW_KERNELS(Kernel)}
constexpr RowFunction kShapeFunctions[] = {
    BOLTZMAX_SHAPE("taylor_softmax", TaylorSoftmax, false, 1.0),
    BOLTZMAX_SHAPE("taylor_softmax_backward", TaylorSoftmaxBackward, true, 2.0),
    BOLTZMAX_SHAPE("log_taylor_softmax", LogTaylorSoftmax, false, 4.0),
    BOLTZMAX_SHAPE("log_taylor_softmax_backward", LogTaylorSoftmaxBackward, true, 2.0),
    BOLTZMAX_SHAPE("spherical_softmax", TaylorSoftmax, false, 1.0),
    BOLTZMAX_SHAPE("spherical_softmax_backward", SphericalSoftmaxBackward, true, 2.0),
    BOLTZMAX_SHAPE("sigsoftmax", Sigsoftmax, false, 1.5),
    BOLTZMAX_SHAPE("sigsoftmax_backward", SigsoftmaxBackward, true, 3.0),
    BOLTZMAX_SHAPE("log_sigsoftmax", LogSigsoftmax, false, 6.0),
    BOLTZMAX_SHAPE("log_sigsoftmax_backward", LogSigsoftmaxBackward, true, 3.0),
};
#undef BOLTZMAX_SHAPE

}  // namespace
}  // namespace boltzmax::kernels
