// libFuzzer's target: turns bytes into a call of the C interface. See .ci/fuzz for how it is built and run.
#include <cstdio>
#include <cstdlib>

#include "calls.hpp"

namespace boltzmax::fuzz {

void Fail(const char* what, const char* isa, int dtype, size_t index, long double got, long double wanted) {
  std::fprintf(stderr, "%s, %s, type %d, [%zu]: got %.21Lg, wanted %.21Lg\n", what, isa, dtype, index, got, wanted);
  std::abort();
}

}  // namespace boltzmax::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace boltzmax::fuzz;
  static const boltzmax_api* const api = boltzmax_get_api(BOLTZMAX_ABI_VERSION);
  if (boltzmax_fits(api) == 0) std::abort();
  Bytes bytes(data, size);
  switch (bytes.Next() % 16) {
    case 0: WrongCall(*api, bytes); break;
    case 1:
    case 2: CrossEntropyCall(*api, bytes); break;
    case 3:
    case 4: BackwardCall(*api, bytes); break;
    case 5:
    case 6: StridedBackwardCall(*api, bytes); break;
    case 7:
    case 8:
    case 9:
    case 10: RowsCall(*api, bytes); break;
    default: StridedCall(*api, bytes); break;
  }
  return 0;
}
