#include "reference.hpp"

#include <algorithm>

namespace boltzmax::fuzz {

namespace {

// The terms of a row that has probabilities.
struct Distribution {
  Real top, log_sum = 0, slack = 0, largest = 0;
  std::vector<Real> d, p;

  Distribution(const Row& row, Real maximum, const Format& format) : top(maximum) {
    Real rest = 0;
    bool seen = false;
    for (size_t i = 0; i < row.x.size(); ++i) {
      d.push_back(row.kept[i] ? (row.x[i] - top) / row.temperature : -INFINITY);
      p.push_back(std::exp(d[i]));
      if (row.kept[i] && std::isfinite(row.x[i])) largest = std::max(largest, std::fabs(row.x[i]));
      // All but one of the largest terms go into log1p, so that tiny ones keep their digits.
      if (d[i] == 0 && !seen) seen = true;
      else rest += p[i];
    }
    log_sum = std::log1p(rest);
    for (size_t i = 0; i < p.size(); ++i) {
      p[i] /= 1 + rest;
      if (d[i] < 0 && p[i] > 0) slack += p[i] * format.Ulp(d[i]) / 2;
    }
    top /= row.temperature;
  }
};

// Rows without a finite maximum, by the table in the README.
Real Degenerate(int operation, const Row& row, size_t i, bool nan, Real top) {
  const bool any = std::find(row.kept.begin(), row.kept.end(), true) != row.kept.end();
  if (operation == BOLTZMAX_LOGSUMEXP) return nan ? NAN : top;
  if (!row.kept[i]) return operation == BOLTZMAX_SOFTMAX ? 0 : -INFINITY;
  if (operation == BOLTZMAX_SOFTMAX || nan || !any) return NAN;
  return top > 0 && row.x[i] < top ? -INFINITY : Real(NAN);
}

// The error budgets are those of tests/ulp.py.
Real AllowedFor(int operation, Real value, Real d, const Distribution& row, Real temperature, int dtype) {
  const Format format = FormatOf(dtype);
  // 1/T and the product with it are rounded.
  const Real scaling = temperature == 1 ? 0 : 2 * format.compute_eps * row.largest / temperature;
  if (operation == BOLTZMAX_SOFTMAX) {
    const Real relative = IsHalf(dtype) ? 2 * format.Eps() : (2 - d / 2) * format.Eps();
    return value > 0 ? relative * value + format.Smallest() + scaling * value : format.Smallest();
  }
  const Real unit = operation == BOLTZMAX_LOGSUMEXP ? std::max(std::fabs(value), row.log_sum) : std::fabs(value);
  const Real own = std::isfinite(d) && d != 0 && operation == BOLTZMAX_LOG_SOFTMAX ? format.Ulp(d) / 2 : 0;
  const Real half = IsHalf(dtype) ? 2 * format.compute_eps * row.log_sum : 0;
  return Real(1.5) * format.Ulp(unit) + own + row.slack + scaling + half;
}

}  // namespace

bool Answer::Admits(Real got, const Format& format) const {
  if (std::isnan(value)) return std::isnan(got);
  if (std::isinf(value) || allowed == 0) return got == value;
  // Beyond the largest number, only infinity or the largest number is right.
  if (std::isinf(got)) return std::signbit(got) == std::signbit(value) && std::fabs(value) + allowed > format.Largest();
  return std::fabs(got - value) <= allowed ||
         (std::fabs(value) > format.Largest() && std::fabs(got) == format.Largest());
}

std::vector<Answer> Forward(int operation, const Row& row, int dtype) {
  const Format format = FormatOf(dtype);
  bool nan = false;
  Real top = -INFINITY, largest = 0;
  for (size_t i = 0; i < row.x.size(); ++i) {
    if (!row.kept[i]) continue;
    nan = nan || std::isnan(row.x[i]);
    top = std::max(top, row.x[i]);
    if (std::isfinite(row.x[i])) largest = std::max(largest, std::fabs(row.x[i]));
  }
  const size_t count = operation == BOLTZMAX_LOGSUMEXP ? 1 : row.x.size();
  std::vector<Answer> answers;
  if (nan || !std::isfinite(top)) {
    for (size_t i = 0; i < count; ++i) answers.push_back({Degenerate(operation, row, i, nan, top), 0});
    return answers;
  }
  const Real limit = format.Largest() / 8;
  if (row.temperature != 1 && (largest > limit || largest / row.temperature > limit)) return {};
  const Distribution all(row, top, format);
  for (size_t i = 0; i < count; ++i) {
    const bool reduces = operation == BOLTZMAX_LOGSUMEXP;
    const Real d = reduces ? 0 : all.d[i];
    const Real value = reduces ? all.top + all.log_sum : operation == BOLTZMAX_SOFTMAX ? all.p[i] : d - all.log_sum;
    answers.push_back({value, AllowedFor(operation, value, d, all, row.temperature, dtype)});
  }
  return answers;
}

std::vector<Answer> Backward(int operation, const std::vector<Real>& dy, const std::vector<Real>& y, int dtype) {
  const Format format = FormatOf(dtype);
  const bool is_softmax = operation == BOLTZMAX_SOFTMAX;
  Real sum = 0, size = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const Real term = is_softmax ? dy[i] * y[i] : dy[i];
    sum += term;
    size += std::fabs(term);
  }
  std::vector<Answer> answers;
  for (size_t i = 0; i < y.size(); ++i) {
    const Real p = is_softmax ? y[i] : std::exp(y[i]);
    const Real value = is_softmax ? p * (dy[i] - sum) : dy[i] - p * sum;
    const Real magnitude = is_softmax ? std::fabs(p) * (std::fabs(dy[i]) + size) : std::fabs(dy[i]) + p * size;
    answers.push_back({value, 2 * (format.Eps() * magnitude + format.Smallest())});
  }
  return answers;
}

std::vector<Answer> CrossEntropy(const std::vector<Real>& x, int64_t target, double scale, int dtype) {
  const Format format = FormatOf(dtype);
  std::vector<Answer> answers;
  if (target < 0) {
    answers.assign(x.size() + 1, {0, 0});
    return answers;
  }
  const Row row = {x, std::vector<bool>(x.size(), true)};
  const Distribution all(row, *std::max_element(x.begin(), x.end()), format);
  const auto at = static_cast<size_t>(target);
  for (size_t i = 0; i < x.size(); ++i) {
    const Real p = all.p[i];
    const Real value = scale * (p - (i == at ? 1 : 0));
    const Real relative = (3 - all.d[i] / 2) * format.compute_eps * p + format.compute_eps * (i == at ? 2 : 0);
    answers.push_back({value, std::fabs(scale) * relative + format.Ulp(value) + format.Smallest()});
  }
  const Real loss = all.log_sum - all.d[at];
  answers.push_back({loss, 4 * format.compute_eps * (1 + loss) + all.slack});
  return answers;
}

}  // namespace boltzmax::fuzz
