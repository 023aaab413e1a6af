// What XLA passes to a foreign function, as its C interface lays it out in memory (major version 0, from minor 0 on).
// These are declarations of our own, of no more than the handlers need, so that the package builds without JAX;
// tests/test_jax_interface.py compares sizes and offsets with the header of the JAX that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace boltzmax::xla {

inline constexpr int kMajor = 0, kMinor = 3;

// Every struct begins with its size as the caller knows it, which grows when fields are added at the end, and a list of
// extensions.
struct Extension {
  size_t size;
  int32_t kind;
  Extension* next;
};
inline constexpr int32_t kMetadataExtension = 1;

struct Version {
  size_t size;
  Extension* extensions;
  int32_t major, minor;
};

struct Error;  // owned by XLA

enum class ErrorCode : int32_t { kInvalidArgument = 3, kResourceExhausted = 8, kOutOfRange = 11, kInternal = 13 };

struct ErrorArguments {
  size_t size;
  Extension* extensions;
  const char* message;  // XLA copies it
  ErrorCode code;
};

struct Api {
  size_t size;
  Extension* extensions;
  Version version;
  const void* internal;
  Error* (*create_error)(ErrorArguments*);
  // ... and further functions
};

enum class Type : int32_t {
  kInt32 = 4,
  kInt64 = 5,
  kUInt32 = 8,
  kFloat16 = 10,
  kFloat32 = 11,
  kFloat64 = 12,
  kBFloat16 = 16
};

// A dense array in C order.
struct Buffer {
  size_t size;
  Extension* extensions;
  Type type;
  void* data;
  int64_t rank;
  int64_t* shape;
};

// Arguments and results: every one is a Buffer.
struct Buffers {
  size_t size;
  Extension* extensions;
  int64_t count;
  int32_t* kinds;
  Buffer** items;
};
inline constexpr int32_t kBuffer = 1;

struct Name {
  const char* begin;
  size_t size;
};

struct Scalar {
  Type type;
  const void* value;
};

// Attributes, sorted by name; those of kind kScalar are a Scalar.
struct Attributes {
  size_t size;
  Extension* extensions;
  int64_t count;
  int32_t* kinds;
  Name** names;
  void** items;
};
inline constexpr int32_t kScalar = 3;

struct Frame {
  size_t size;
  Extension* extensions;
  const Api* api;
  void* context;
  int32_t stage;
  Buffers arguments;
  Buffers results;
  Attributes attributes;
  // ... and further fields
};

// XLA asks a handler for this, once, when it is registered: by a frame with an extension of that kind.
struct Metadata {
  size_t size;
  Version version;  // of the interface that the handler speaks
  uint32_t traits;
  int64_t state_type;
};
struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

using Handler = Error*(Frame*);

}  // namespace boltzmax::xla
