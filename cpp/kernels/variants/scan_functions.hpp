// The functions of rows that sum over parts of them.
#pragma once

#include "mixture.hpp"
#include "windows.hpp"

namespace boltzmax::kernels {
namespace {

constexpr RowFunction kScanFunctions[] = {
    {.name = "logcumsumexp",
     .has_other = false,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 4.0,
     BOLTZMAX_ROW_KERNELS(LogCumSumExp)},
    {.name = "mixture_of_rows",  // run by core/variants/mixture.cpp
     .has_other = false,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 1.2,
     BOLTZMAX_ROW_KERNELS(MixtureOfRows)},
    {.name = "windowed_logsumexp",
     .has_other = false,
     .reduces = false,
     .scratch = WindowScratch,
     .cost = 12.0,
     BOLTZMAX_ROW_KERNELS(WindowedLogSumExp)},
    {.name = "windowed_softmax",
     .has_other = false,
     .reduces = false,
     .scratch = WindowScratch,
     .cost = 4.0,
     BOLTZMAX_ROW_KERNELS(WindowedSoftmax)},
};

}  // namespace
}  // namespace boltzmax::kernels
