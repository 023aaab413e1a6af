// Work without the GIL, so that other Python threads can run.
#pragma once

#include <Python.h>

#include <chrono>
#include <exception>
#include <limits>
#include <new>
#include <thread>

namespace boltzmax {

// Work that takes longer than this runs without the GIL.
inline constexpr double kReleaseGilNanoseconds = 5000.0;

// Takes the GIL again. When the interpreter is about to end, every other thread is denied it. From 3.14 on, CPython
// lets such a thread wait for the end of the process; before, it ends the thread there, which unwinds its stack and
// would run destructors without the GIL (https://github.com/python/cpython/issues/87135). So the unwinding is stopped
// here, and the thread waits, too.
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

// Runs f without the GIL if `cost` (in nanoseconds; by default, large) is more than tiny. Exceptions of f are rethrown
// once the GIL is held again.
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

// The same for callers from Python: false with an exception set if f throws.
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
