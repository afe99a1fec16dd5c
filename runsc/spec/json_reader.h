// SPDX-License-Identifier: Apache-2.0
// Typed reading of JSON objects with errors that name the field by its path ("mounts[3].options[1]"). The first error
// is kept and every later read does nothing, so that callers read straight through and look once at the end. Fields
// that nobody asked for are collected as warnings. `null` counts as absent, as in Go's encoding/json.
#ifndef RUNSC_SPEC_JSON_READER_H_
#define RUNSC_SPEC_JSON_READER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace runsc::spec {

// What one document's readers share.
struct ReadLog {
  absl::Status error;
  std::vector<std::string> warnings;
  void Fail(const std::string& path, const std::string& what);
  bool ok() const { return error.ok(); }
};

enum class Need : uint8_t { kOptional, kRequired };

class ObjectReader {
 public:
  // `value` is a nlohmann::json object, borrowed.
  ObjectReader(const void* value, std::string path, ReadLog* log);
  // Warns of the fields that were not read.
  ~ObjectReader();
  ObjectReader(const ObjectReader&) = delete;
  ObjectReader& operator=(const ObjectReader&) = delete;

  bool Has(const char* name);
  // Strings with a NUL byte are refused: no Linux interface takes them.
  void String(const char* name, std::string* out, Need need = Need::kOptional);
  void Bool(const char* name, bool* out);
  void Integer(const char* name, int64_t* out, int64_t minimum, int64_t maximum, Need need = Need::kOptional);
  void OptionalInteger(const char* name, std::optional<int64_t>* out, int64_t minimum, int64_t maximum);
  void Unsigned(const char* name, uint64_t* out, Need need = Need::kOptional);
  void Uint32(const char* name, uint32_t* out, Need need = Need::kOptional);
  void Strings(const char* name, std::vector<std::string>* out, Need need = Need::kOptional);
  void Uint32s(const char* name, std::vector<uint32_t>* out);
  void StringMap(const char* name, std::map<std::string, std::string>* out);
  // Calls `read` with the object, if it is there. False if it is not.
  bool Object(const char* name, const std::function<void(ObjectReader&)>& read, Need need = Need::kOptional);
  // Calls `read` for each object of the array.
  void Objects(const char* name, const std::function<void(ObjectReader&, size_t index)>& read);
  // The value as JSON text.
  void Raw(const char* name, std::string* out);
  // Marks fields as known that have no effect here, on purpose.
  void Ignore(std::initializer_list<const char*> names);
  // As Ignore, with a warning that says what is missing when the field is there and not empty.
  void WarnUnsupported(const char* name, const char* why);

  // Something to be told that is no error.
  void Warn(const std::string& name, const std::string& what);
  // Reports an error of `name` ("" = the object itself).
  void Fail(const std::string& name, const std::string& what);
  std::string PathOf(const std::string& name) const;
  const std::string& path() const { return path_; }
  bool ok() const { return log_.ok(); }
  ReadLog& log() { return log_; }

 private:
  // Null if absent, null, or an error has been found before.
  const void* Find(const char* name, Need need);

  const void* value_;
  std::string path_;
  ReadLog& log_;
  std::set<std::string> known_;
};

// Parses `text` and calls `read` with the top-level object. Syntax errors name line and column. `path` is the prefix of
// field paths (may be empty).
absl::Status ReadJsonObject(const std::string& text, const std::string& path,
                            const std::function<void(ObjectReader&)>& read, std::vector<std::string>* warnings);

// The whole file, at most 16 MiB; errors name the path. kNotFound when it does not exist.
absl::Status ReadSmallFile(const std::string& path, std::string* out);

}  // namespace runsc::spec

#endif  // RUNSC_SPEC_JSON_READER_H_
