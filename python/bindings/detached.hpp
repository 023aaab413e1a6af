// Work without the GIL, so that other threads of Python go on meanwhile.
#pragma once

#include <Python.h>

#include <chrono>
#include <exception>
#include <limits>
#include <new>
#include <thread>

namespace boltzmax {

// Work for longer than this runs without the GIL.
inline constexpr double kReleaseGilNanoseconds = 5000.0;

// Takes the GIL again. When the interpreter is about to end, it is refused to every other thread: from 3.14 on CPython lets
// those wait for the end of the process; before, it ends them in there, which unwinds their stack and would destroy what lies
// on it without the GIL (https://github.com/python/cpython/issues/87135). So the unwinding gets no further than here, and
// they wait, too.
inline void TakeGil(PyThreadState* state) {
  struct Taking {
    bool done = false;
    ~Taking() {
      while (!done) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  } taking;
  PyEval_RestoreThread(state);
  taking.done = true;
}

// Runs f without the GIL, if `cost` (nanoseconds; many, where none is given) is more than tiny. What f throws is thrown when the GIL is held again.
template <class F>
void Detached(double cost, F f) {
  PyThreadState* state = cost > kReleaseGilNanoseconds ? PyEval_SaveThread() : nullptr;
  std::exception_ptr failure;
  try {
    f();
  } catch (...) {
    failure = std::current_exception();
  }
  if (state != nullptr) TakeGil(state);
  if (failure) std::rethrow_exception(failure);
}

template <class F>
void Detached(F f) {
  Detached(std::numeric_limits<double>::infinity(), f);
}

// The same for those that answer to Python alone: false, with an exception set, where f throws.
template <class F>
bool RunDetached(double cost, F f) {
  try {
    Detached(cost, f);
    return true;
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return false;
}

}  // namespace boltzmax
