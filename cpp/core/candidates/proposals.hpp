// Distributions that candidates are drawn from.
#pragma once

#include "../runtime/candidate_table.hpp"
#include "alias.hpp"

namespace boltzmax {

class Proposal {
 public:
  Proposal() = default;
  Proposal(const Proposal&) = delete;
  Proposal& operator=(const Proposal&) = delete;
  virtual ~Proposal() = default;

  // One class for each block of words, at most kDrawBatch, and the logarithm of its probability.
  virtual void Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const = 0;
  // The logarithms of the probabilities of at most kDrawBatch classes.
  virtual void LogP(const int64_t* ids, size_t count, double* log_p) const = 0;
};

class UniformProposal final : public Proposal {
 public:
  explicit UniformProposal(uint64_t classes);
  void Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const override;
  void LogP(const int64_t* ids, size_t count, double* log_p) const override;

 private:
  const uint64_t classes_;
  const double log_p_;
};

class LogUniformProposal final : public Proposal {
 public:
  explicit LogUniformProposal(uint64_t classes);
  void Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const override;
  void LogP(const int64_t* ids, size_t count, double* log_p) const override;

 private:
  LogUniformLaw law_;
};

class TableProposal final : public Proposal {
 public:
  TableProposal(const TableSlot* slots, uint64_t classes);
  void Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const override;
  void LogP(const int64_t* ids, size_t count, double* log_p) const override;

 private:
  const TableSlot* const slots_;
  const uint64_t classes_;
};

// P(i) = (counts_i + smoothing) / total. The table, if there is one, knows the counts up to some moment, and the
// observations since then are listed: a draw is from either, as their shares of the total have it.
struct CountedClasses {
  const AliasSlot* slots;  // null: the table is uniform
  const int64_t* recent;
  size_t recent_count;
  const int64_t* counts;
  uint64_t classes;
  double smoothing, total;
};

class CountedProposal final : public Proposal {
 public:
  explicit CountedProposal(const CountedClasses& counted);
  void Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const override;
  void LogP(const int64_t* ids, size_t count, double* log_p) const override;

 private:
  const CountedClasses counted_;
  const double recent_share_, log_total_;
};

}  // namespace boltzmax
