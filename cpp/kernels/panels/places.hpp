// Where rows are: at a stride, or at listed places.
#pragma once

#include "../isa/vec_concept.hpp"

namespace boltzmax::kernels {
namespace {

// Rows that are at a stride or, if places are given, at these, in bytes from the first. The stride is then 0.
template <class P>
struct Rows {
  P* first;
  ptrdiff_t stride;
  const ptrdiff_t* places = nullptr;

  P* operator[](size_t r) const { return places == nullptr ? RowAt(first, stride, r) : RowAt(first, places, r); }
  Rows From(size_t r) const { return {RowAt(first, stride, r), stride, places == nullptr ? nullptr : places + r}; }
};

// What loads and stores of parts need to know of rows: see vec_concept.hpp.
template <class P, class Rows>
struct RowsFrom {
  P* first;
  Rows rows;
};

}  // namespace
}  // namespace boltzmax::kernels
