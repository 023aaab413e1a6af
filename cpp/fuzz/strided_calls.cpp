#include "arrays.hpp"
#include "calls.hpp"
#include "reference.hpp"

namespace boltzmax::fuzz {

namespace {

Shape AnyShape(Bytes& bytes) {
  Shape shape(bytes.Below(5));
  size_t count = 1;
  for (ptrdiff_t& side : shape) {
    side = static_cast<ptrdiff_t>(bytes.Side());
    if (count * static_cast<size_t>(side) > 3000) side = 1;
    count *= std::max<size_t>(static_cast<size_t>(side), 1);
  }
  return shape;
}

// The reduced axes, and how rows and their elements are found in an array of all axes.
struct Rows {
  Shape shape, outer, inner;
  uint64_t axes;

  Rows(Bytes& bytes, const Shape& all) : shape(all), axes(bytes.Next() & ((1u << all.size()) - 1)) {
    for (size_t d = 0; d < shape.size(); ++d) (Reduces(d) ? inner : outer).push_back(shape[d]);
  }
  bool Reduces(size_t d) const { return (axes >> d & 1) != 0; }

  // The index in C order of element i of row r.
  size_t Index(size_t r, size_t i) const {
    size_t index = 0, step = 1;
    for (size_t d = shape.size(); d-- > 0;) {
      const auto side = static_cast<size_t>(shape[d]);
      size_t& rest = Reduces(d) ? i : r;
      index += rest % side * step;
      rest /= side;
      step *= side;
    }
    return index;
  }
};

// Strides of the outer axes, extended to all axes: those of the reduced axes are ignored.
Shape Widened(const Shape& strides, const Rows& rows) {
  Shape wide(rows.shape.size(), 12345);
  for (size_t d = 0, next = 0; d < wide.size(); ++d) {
    if (!rows.Reduces(d)) wide[d] = strides[next++];
  }
  return wide;
}

Array Temperatures(Bytes& bytes, const Shape& outer) {
  Array t(bytes, BOLTZMAX_FLOAT64, outer, Use::kAlignedInput);
  constexpr double kValues[] = {1.0, 1.0, 0.5, 2.0, 0.37, 11.0, 1e-3, 1e6, 1e-30, 1e30};
  for (size_t i = 0; i < Count(outer); ++i) {
    const double value = kValues[bytes.Below(10)];
    std::memcpy(t.At(i), &value, sizeof value);
  }
  return t;
}

// Other conversions between types are not checked, except those that are exact or round once.
bool IsComparable(int x, int y) { return x == y || y == BOLTZMAX_FLOAT64 || y == BOLTZMAX_FLOAT32; }

Real Converted(Real x, int dtype) {
  return dtype == BOLTZMAX_FLOAT32   ? Real{static_cast<float>(x)}
         : dtype == BOLTZMAX_FLOAT64 ? Real{static_cast<double>(x)}
                                     : x;
}

}  // namespace

void StridedCall(const boltzmax_api& api, Bytes& bytes) {
  const auto operation = static_cast<int>(bytes.Below(3)), y_dtype = static_cast<int>(bytes.Below(4));
  const int x_dtype = bytes.Once(2) ? y_dtype : static_cast<int>(bytes.Below(13));
  const Rows rows(bytes, AnyShape(bytes));
  const bool reduces = operation == BOLTZMAX_LOGSUMEXP;
  const Shape& result = reduces ? rows.outer : rows.shape;
  const bool in_place = !reduces && x_dtype == y_dtype && bytes.Once(4);
  Array x(bytes, x_dtype, rows.shape, in_place ? Use::kOutput : Use::kInput);
  x.Fill(bytes, bytes.Once(2));
  Array apart(bytes, y_dtype, result, Use::kOutput);
  Array& y = in_place ? x : apart;
  const bool masked = bytes.Once(3), scaled = bytes.Once(3), one_for_all = bytes.Once(4);
  Array mask(bytes, BOLTZMAX_BOOL, rows.shape, Use::kInput);
  mask.Fill(bytes, false);
  const Array temperature = Temperatures(bytes, one_for_all ? Shape{} : rows.outer);

  const Shape y_strides = reduces ? Widened(y.strides(), rows) : y.strides();
  const Shape t_strides = one_for_all ? Shape{} : Widened(temperature.strides(), rows);
  boltzmax_strided call = {};
  call.size = sizeof call;
  call.operation = operation;
  call.x_dtype = x_dtype;
  call.y_dtype = y_dtype;
  call.ndim = static_cast<int>(rows.shape.size());
  call.axes = rows.axes;
  call.shape = rows.shape.data();
  call.x = x.data();
  call.x_strides = x.strides().data();
  call.y = y.data();
  call.y_strides = y_strides.data();
  if (masked) {
    call.mask = reinterpret_cast<const uint8_t*>(mask.data());
    call.mask_strides = mask.strides().data();
  }
  if (scaled) {
    call.temperature = reinterpret_cast<const double*>(temperature.data());
    call.temperature_strides = one_for_all ? nullptr : t_strides.data();
  }

  const size_t row_count = Count(rows.outer), n = Count(rows.inner);
  std::vector<Row> inputs(row_count);
  for (size_t r = 0; r < row_count; ++r) {
    if (scaled) inputs[r].temperature = temperature[one_for_all ? 0 : r];
    for (size_t i = 0; i < n; ++i) {
      const size_t at = rows.Index(r, i);
      inputs[r].x.push_back(Converted(x[at], y_dtype));
      inputs[r].kept.push_back(!masked || mask[at] != 0);
    }
  }
  const Format format = FormatOf(y_dtype);
  const std::vector<char> given = x.Save();
  OnEveryIsa(api, [&](const char* isa) {
    if (in_place) x.Restore(given);
    else y.Mark();
    const std::vector<char> before = y.Save();
    RequireOk(api.run_strided(&call), "run_strided", isa, y_dtype);
    if (!y.IsUntouchedBetween(before)) Fail("written between elements", isa, y_dtype, 0, 0, 0);
    if (!in_place && x.Save() != given) Fail("input written to", isa, y_dtype, 0, 0, 0);
    if (!IsComparable(x_dtype, y_dtype)) return;
    for (size_t r = 0; r < row_count; ++r) {
      const std::vector<Answer> answers = Forward(operation, inputs[r], y_dtype);
      for (size_t i = 0; i < answers.size(); ++i) {
        const Real got = y[reduces ? r : rows.Index(r, i)];
        if (!answers[i].Admits(got, format))
          Fail("run_strided", isa, 10 * operation + y_dtype, i, got, answers[i].value);
      }
    }
  });
}

void StridedBackwardCall(const boltzmax_api& api, Bytes& bytes) {
  const auto operation = static_cast<int>(bytes.Below(2)), dtype = static_cast<int>(bytes.Below(4));
  const Rows rows(bytes, AnyShape(bytes));
  Array dy(bytes, dtype, rows.shape, Use::kInput), y(bytes, dtype, rows.shape, Use::kInput);
  Array dx(bytes, dtype, rows.shape, Use::kOutput);
  dy.Fill(bytes, true);
  for (size_t i = 0; i < Count(rows.shape); ++i) {
    // Probabilities or their logarithms, whose sum does not matter.
    const int quarters = operation == BOLTZMAX_SOFTMAX ? bytes.Next() % 5 : -(bytes.Next() % 128);
    WriteSmall(dtype, quarters, y.At(i));
  }
  boltzmax_strided_backward call = {};
  call.size = sizeof call;
  call.operation = operation;
  call.dtype = dtype;
  call.ndim = static_cast<int>(rows.shape.size());
  call.axes = rows.axes;
  call.shape = rows.shape.data();
  call.dy = dy.data();
  call.dy_strides = dy.strides().data();
  call.y = y.data();
  call.y_strides = y.strides().data();
  call.dx = dx.data();
  call.dx_strides = dx.strides().data();
  const Format format = FormatOf(dtype);
  OnEveryIsa(api, [&](const char* isa) {
    dx.Mark();
    const std::vector<char> before = dx.Save();
    RequireOk(api.run_strided_backward(&call), "run_strided_backward", isa, dtype);
    if (!dx.IsUntouchedBetween(before)) Fail("written between elements", isa, dtype, 0, 0, 0);
    for (size_t r = 0; r < Count(rows.outer); ++r) {
      std::vector<Real> a, b;
      for (size_t i = 0; i < Count(rows.inner); ++i) {
        a.push_back(dy[rows.Index(r, i)]);
        b.push_back(y[rows.Index(r, i)]);
      }
      const std::vector<Answer> answers = Backward(operation, a, b, dtype);
      for (size_t i = 0; i < answers.size(); ++i) {
        const Real got = dx[rows.Index(r, i)];
        if (!answers[i].Admits(got, format)) Fail("run_strided_backward", isa, dtype, i, got, answers[i].value);
      }
    }
  });
}

}  // namespace boltzmax::fuzz
