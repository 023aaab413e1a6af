#include <limits>

#include "arrays.hpp"
#include "calls.hpp"
#include "reference.hpp"

namespace boltzmax::fuzz {

namespace {

Shape AnyRows(Bytes& bytes) {
  const size_t n = bytes.Side(), rows = bytes.Below(bytes.Once(8) ? 40 : 6);
  return {static_cast<ptrdiff_t>(rows), static_cast<ptrdiff_t>(rows * n > 6000 ? 1 : n)};
}

struct RowsFunction {
  const boltzmax_api& api;
  int operation, dtype;

  int operator()(const void* x, ptrdiff_t rows, ptrdiff_t n, double temperature, void* y) const {
    const auto at = [&](auto f, auto* type) {
      using T = decltype(type);
      return f(static_cast<T>(const_cast<void*>(x)), rows, n, temperature, static_cast<T>(y));
    };
    const auto plain = [&](auto f, auto* type) {
      using T = decltype(type);
      return f(static_cast<T>(const_cast<void*>(x)), rows, n, static_cast<T>(y));
    };
    const bool scaled = temperature != 1.0;
    switch (operation) {
      case BOLTZMAX_SOFTMAX:
        return scaled ? BOLTZMAX_PICK(api, dtype, softmax_at, at) : BOLTZMAX_PICK(api, dtype, softmax, plain);
      case BOLTZMAX_LOG_SOFTMAX:
        return scaled ? BOLTZMAX_PICK(api, dtype, log_softmax_at, at) : BOLTZMAX_PICK(api, dtype, log_softmax, plain);
      default:
        return scaled ? BOLTZMAX_PICK(api, dtype, logsumexp_at, at) : BOLTZMAX_PICK(api, dtype, logsumexp, plain);
    }
  }
};

}  // namespace

void RowsCall(const boltzmax_api& api, Bytes& bytes) {
  const auto operation = static_cast<int>(bytes.Below(3)), dtype = static_cast<int>(bytes.Below(4));
  const Shape shape = AnyRows(bytes);
  const auto rows = static_cast<size_t>(shape[0]), n = static_cast<size_t>(shape[1]);
  const bool reduces = operation == BOLTZMAX_LOGSUMEXP, in_place = !reduces && bytes.Once(3);
  constexpr double kTemperatures[] = {1.0, 1.0, 1.0, 0.7, 3.0, 1e-8, 1e-30, 1e30};
  const double temperature = kTemperatures[bytes.Below(8)];
  Array x(dtype, shape), apart(dtype, reduces ? Shape{shape[0]} : shape);
  x.Fill(bytes, bytes.Once(2));
  Array& y = in_place ? x : apart;
  std::vector<Row> inputs(rows);
  for (size_t i = 0; i < rows * n; ++i) {
    inputs[i / n].x.push_back(x[i]);
    inputs[i / n].kept.push_back(true);
  }
  const std::vector<char> given = x.Save();
  const Format format = FormatOf(dtype);
  OnEveryIsa(api, [&](const char* isa) {
    x.Restore(given);
    for (size_t r = 0; r < rows; ++r) inputs[r].temperature = temperature;
    RequireOk(RowsFunction{api, operation, dtype}(x.data(), shape[0], shape[1], temperature, y.data()), "rows", isa,
              dtype);
    for (size_t r = 0; r < rows; ++r) {
      const std::vector<Answer> answers = Forward(operation, inputs[r], dtype);
      for (size_t i = 0; i < answers.size(); ++i) {
        const Real got = y[reduces ? r : r * n + i];
        if (!answers[i].Admits(got, format)) Fail("rows", isa, 10 * operation + dtype, i, got, answers[i].value);
      }
    }
  });
}

void BackwardCall(const boltzmax_api& api, Bytes& bytes) {
  const auto operation = static_cast<int>(bytes.Below(2)), dtype = static_cast<int>(bytes.Below(4));
  const Shape shape = AnyRows(bytes);
  const auto rows = static_cast<size_t>(shape[0]), n = static_cast<size_t>(shape[1]);
  Array dy(dtype, shape), y(dtype, shape), apart(dtype, shape);
  dy.Fill(bytes, true);
  for (size_t i = 0; i < rows * n; ++i) {
    WriteSmall(dtype, operation == BOLTZMAX_SOFTMAX ? bytes.Next() % 5 : -(bytes.Next() % 128), y.At(i));
  }
  const size_t place = bytes.Below(3);
  Array& dx = place == 0 ? apart : place == 1 ? dy : y;
  std::vector<std::vector<Answer>> answers;
  for (size_t r = 0; r < rows; ++r) {
    std::vector<Real> a, b;
    for (size_t i = 0; i < n; ++i) {
      a.push_back(dy[r * n + i]);
      b.push_back(y[r * n + i]);
    }
    answers.push_back(Backward(operation, a, b, dtype));
  }
  const std::vector<char> given_dy = dy.Save(), given_y = y.Save();
  const auto call = [&](auto f, auto* type) {
    using T = decltype(type);
    return f(reinterpret_cast<T>(dy.data()), reinterpret_cast<T>(y.data()), shape[0], shape[1],
             reinterpret_cast<T>(dx.data()));
  };
  OnEveryIsa(api, [&](const char* isa) {
    dy.Restore(given_dy);
    y.Restore(given_y);
    const int status = operation == BOLTZMAX_SOFTMAX ? BOLTZMAX_PICK(api, dtype, softmax_backward, call)
                                                     : BOLTZMAX_PICK(api, dtype, log_softmax_backward, call);
    RequireOk(status, "backward", isa, dtype);
    for (size_t i = 0; i < rows * n; ++i) {
      const Answer& answer = answers[i / n][i % n];
      if (!answer.Admits(dx[i], FormatOf(dtype))) Fail("backward", isa, dtype, i, dx[i], answer.value);
    }
  });
}

void CrossEntropyCall(const boltzmax_api& api, Bytes& bytes) {
  const auto dtype = static_cast<int>(bytes.Below(4));
  const Shape shape = AnyRows(bytes);
  const auto rows = static_cast<size_t>(shape[0]), n = static_cast<size_t>(shape[1]);
  Array x(dtype, shape), apart(dtype, shape), loss(BOLTZMAX_FLOAT64, {shape[0]});
  x.Fill(bytes, true);
  const size_t place = bytes.Below(3);  // of the gradient: a separate array, the logits, or none
  Array& gradient = place == 1 ? x : apart;
  const double scale = bytes.Once(2) ? 1.0 : 1.0 / 3;
  const auto target = std::make_unique<int64_t[]>(rows);
  std::vector<std::vector<Answer>> answers;
  for (size_t r = 0; r < rows; ++r) {
    target[r] = n == 0 || bytes.Once(6) ? -1 - int64_t{bytes.Next()} : static_cast<int64_t>(bytes.Next() % n);
    std::vector<Real> row;
    for (size_t i = 0; i < n; ++i) row.push_back(x[r * n + i]);
    answers.push_back(CrossEntropy(row, target[r], scale, dtype));
  }
  const std::vector<char> given = x.Save();
  const auto call = [&](auto f, auto* type) {
    using T = decltype(type);
    return f(reinterpret_cast<T>(x.data()), target.get(), shape[0], shape[1], scale,
             reinterpret_cast<double*>(loss.data()), place == 2 ? nullptr : reinterpret_cast<T>(gradient.data()));
  };
  OnEveryIsa(api, [&](const char* isa) {
    x.Restore(given);
    RequireOk(BOLTZMAX_PICK(api, dtype, cross_entropy, call), "cross_entropy", isa, dtype);
    for (size_t r = 0; r < rows; ++r) {
      const Answer& own = answers[r].back();
      if (!own.Admits(loss[r], FormatOf(BOLTZMAX_FLOAT64))) Fail("loss", isa, dtype, r, loss[r], own.value);
      for (size_t i = 0; i < n && place != 2; ++i) {
        const Real got = gradient[r * n + i];
        if (!answers[r][i].Admits(got, FormatOf(dtype))) Fail("d_logits", isa, dtype, i, got, answers[r][i].value);
      }
    }
  });
}

void WrongCall(const boltzmax_api& api, Bytes& bytes) {
  const auto operation = static_cast<int>(bytes.Below(3)), dtype = static_cast<int>(bytes.Below(4));
  const ptrdiff_t rows = 1 + static_cast<ptrdiff_t>(bytes.Below(4)), n = 3 + static_cast<ptrdiff_t>(bytes.Below(40));
  Array x(dtype, {rows, n}), y(dtype, {rows, n});
  x.Fill(bytes, true);
  y.Mark();
  const std::vector<char> given = x.Save(), before = y.Save();
  const RowsFunction f = {api, operation, dtype};
  const auto item = static_cast<ptrdiff_t>(SizeOf(dtype));
  constexpr ptrdiff_t kMost = std::numeric_limits<ptrdiff_t>::max();
  constexpr double kBad[] = {0.0, -1.0, 1e-31, 1e31, INFINITY, -INFINITY, NAN, 5e-324};
  int status = BOLTZMAX_OK;
  switch (bytes.Below(8)) {
    case 0: status = f(nullptr, rows, n, 1.0, y.data()); break;
    case 1: status = f(x.data(), rows, n, 1.0, nullptr); break;
    case 2: status = f(x.data(), -rows, n, 1.0, y.data()); break;
    case 3: status = f(x.data(), rows, -n, 1.0, y.data()); break;
    case 4: status = f(x.data(), kMost / (1 + rows), n, 1.0, y.data()); break;
    case 5: status = f(x.data() + 1, rows, n - 1, 1.0, y.data()); break;
    case 6: status = f(x.data(), rows, n - 1, 1.0, x.data() + item); break;
    default: status = f(x.data(), rows, n, kBad[bytes.Below(8)], y.data()); break;
  }
  if (status == BOLTZMAX_OK) Fail("nothing was wrong", "any", dtype, 0, 0, 0);
  if (x.Save() != given || y.Save() != before) Fail("written in spite of", "any", dtype, 0, status, 0);
}

}  // namespace boltzmax::fuzz
