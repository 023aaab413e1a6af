#include "proposals.hpp"

#include <algorithm>
#include <cmath>

namespace boltzmax {

namespace {

// A number from 0 to n - 1: the upper half of the product of 128 bits. Its probabilities differ by at most 2^-64.
uint64_t Below(uint64_t n, uint64_t bits) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * n) >> 64);
}

double UniformOf(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// Whether the alias is taken is used as a number: no processor could predict a branch on it.
bool TakesAlias(const AliasSlot& slot, double u) { return u >= slot.threshold; }
int64_t FromSlot(const AliasSlot& slot, uint64_t own, bool takes_alias) {
  return static_cast<int64_t>(own ^ ((own ^ slot.alias) & (uint64_t{0} - uint64_t{takes_alias})));
}

// Memory is read in two passes, of which the first asks for it: a batch waits once and not for each of its draws.
void Ask(const void* p) { __builtin_prefetch(p); }

}  // namespace

UniformProposal::UniformProposal(uint64_t classes)
    : classes_(classes), log_p_(-std::log(static_cast<double>(classes))) {}

void UniformProposal::Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const {
  for (size_t i = 0; i < count; ++i) ids[i] = static_cast<int64_t>(Below(classes_, words.Lower(i)));
  LogP(ids, count, log_p);
}

void UniformProposal::LogP(const int64_t*, size_t count, double* log_p) const { std::fill_n(log_p, count, log_p_); }

LogUniformProposal::LogUniformProposal(uint64_t classes) : law_() {
  constexpr double kBits = 0x1p16, kLog2e = 0x1.71547652b82fep+0;  // the logarithm is at most 2^5
  const double most = static_cast<double>(classes) + 1.0;
  law_.classes = static_cast<double>(classes);
  law_.log2_hi = std::floor(std::log2(most) * kBits) / kBits;
  const double power = std::exp2(law_.log2_hi);
  law_.log2_lo = std::log1p((most - power) / power) * kLog2e;
  law_.log_of_log = std::log(std::log1p(static_cast<double>(classes)));
}

void LogUniformProposal::Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const {
  ActiveCandidates().log_uniform(words, count, law_, ids);
  LogP(ids, count, log_p);
}

void LogUniformProposal::LogP(const int64_t* ids, size_t count, double* log_p) const {
  ActiveCandidates().log_uniform_log_p(ids, count, law_, log_p);
}

TableProposal::TableProposal(const TableSlot* slots, uint64_t classes) : slots_(slots), classes_(classes) {}

void TableProposal::Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const {
  uint32_t own[kDrawBatch];
  for (size_t i = 0; i < count; ++i) {
    own[i] = static_cast<uint32_t>(Below(classes_, words.Lower(i)));
    Ask(slots_ + own[i]);
  }
  for (size_t i = 0; i < count; ++i) {
    const TableSlot& slot = slots_[own[i]];
    const bool takes_alias = TakesAlias(slot.classes, UniformOf(words.Upper(i)));
    ids[i] = FromSlot(slot.classes, own[i], takes_alias);
    log_p[i] = slot.log_p[takes_alias];
  }
}

void TableProposal::LogP(const int64_t* ids, size_t count, double* log_p) const {
  for (size_t i = 0; i < count; ++i) Ask(slots_ + ids[i]);
  for (size_t i = 0; i < count; ++i) log_p[i] = slots_[ids[i]].log_p[0];
}

CountedProposal::CountedProposal(const CountedClasses& counted)
    : counted_(counted),
      recent_share_(static_cast<double>(counted.recent_count) / counted.total),
      log_total_(std::log(counted.total)) {}

void CountedProposal::Draw(const BatchWords& words, size_t count, int64_t* ids, double* log_p) const {
  const CountedClasses& c = counted_;
  uint64_t place[kDrawBatch];
  for (size_t i = 0; i < count; ++i) {
    const bool is_recent = UniformOf(words.Upper(i)) < recent_share_;
    place[i] = Below(is_recent ? c.recent_count : c.classes, words.Lower(i));
    if (is_recent) {
      Ask(c.recent + place[i]);
    } else if (c.slots != nullptr) {
      Ask(c.slots + place[i]);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    const double u = UniformOf(words.Upper(i));
    if (u < recent_share_) {
      ids[i] = c.recent[place[i]];
    } else if (c.slots == nullptr) {
      ids[i] = static_cast<int64_t>(place[i]);
    } else {
      const AliasSlot& slot = c.slots[place[i]];
      ids[i] = FromSlot(slot, place[i], TakesAlias(slot, (u - recent_share_) / (1.0 - recent_share_)));
    }
  }
  LogP(ids, count, log_p);
}

void CountedProposal::LogP(const int64_t* ids, size_t count, double* log_p) const {
  for (size_t i = 0; i < count; ++i) Ask(counted_.counts + ids[i]);
  for (size_t i = 0; i < count; ++i) {
    log_p[i] = std::log(static_cast<double>(counted_.counts[ids[i]]) + counted_.smoothing) - log_total_;
  }
}

}  // namespace boltzmax
