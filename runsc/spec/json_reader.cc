// SPDX-License-Identifier: Apache-2.0
#include "runsc/spec/json_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "runsc/errors.h"

namespace runsc::spec {
namespace {

using nlohmann::json;

constexpr off_t kMaxFile = 16 << 20;

const json& Json(const void* value) { return *static_cast<const json*>(value); }

std::string Describe(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return absl::StrCat("is ", text);
}

bool HasNul(const std::string& s) { return s.find('\0') != std::string::npos; }

// Builds the document and keeps where it is broken: without exceptions json::parse says nothing about that.
class DomBuilder : public nlohmann::detail::json_sax_dom_parser<json> {
 public:
  explicit DomBuilder(json& root) : json_sax_dom_parser(root, /*allow_exceptions_=*/false) {}
  template <typename Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    failed_at = position;
    failed = true;
    return false;
  }
  bool failed = false;
  size_t failed_at = 0;
};

}  // namespace

void ReadLog::Fail(const std::string& path, const std::string& what) {
  if (error.ok()) error = absl::InvalidArgumentError(path.empty() ? what : absl::StrCat(path, ": ", what));
}

ObjectReader::ObjectReader(const void* value, std::string path, ReadLog* log)
    : value_(value), path_(std::move(path)), log_(*log) {}

ObjectReader::~ObjectReader() {
  if (!log_.ok()) return;
  for (const auto& [name, value] : Json(value_).items()) {
    if (known_.contains(name)) continue;
    log_.warnings.push_back(absl::StrCat(PathOf(name), ": unknown field, ignored"));
  }
}

std::string ObjectReader::PathOf(const std::string& name) const {
  if (name.empty()) return path_;
  if (path_.empty()) return name;
  return name[0] == '[' ? path_ + name : absl::StrCat(path_, ".", name);
}

void ObjectReader::Fail(const std::string& name, const std::string& what) { log_.Fail(PathOf(name), what); }

const void* ObjectReader::Find(const char* name, Need need) {
  known_.insert(name);
  if (!log_.ok()) return nullptr;
  const json& object = Json(value_);
  auto it = object.find(name);
  if (it == object.end() || it->is_null()) {
    if (need == Need::kRequired) Fail(name, "missing");
    return nullptr;
  }
  return &*it;
}

bool ObjectReader::Has(const char* name) { return Find(name, Need::kOptional) != nullptr; }

void ObjectReader::String(const char* name, std::string* out, Need need) {
  const void* found = Find(name, need);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_string()) return Fail(name, "must be a string, " + Describe(value));
  const auto& text = value.get_ref<const std::string&>();
  if (HasNul(text)) return Fail(name, "must not contain a NUL byte");
  if (need == Need::kRequired && text.empty()) return Fail(name, "must not be empty");
  *out = text;
}

void ObjectReader::Bool(const char* name, bool* out) {
  const void* found = Find(name, Need::kOptional);
  if (!found) return;
  if (!Json(found).is_boolean()) return Fail(name, "must be true or false, " + Describe(Json(found)));
  *out = Json(found).get<bool>();
}

void ObjectReader::Integer(const char* name, int64_t* out, int64_t minimum, int64_t maximum, Need need) {
  const void* found = Find(name, need);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_number_integer()) return Fail(name, "must be an integer, " + Describe(value));
  bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  int64_t number = too_large ? INT64_MAX : value.get<int64_t>();
  if (too_large || number < minimum || number > maximum) {
    return Fail(name, absl::StrCat("must be in ", minimum, "..", maximum, ", ", Describe(value)));
  }
  *out = number;
}

void ObjectReader::OptionalInteger(const char* name, std::optional<int64_t>* out, int64_t minimum, int64_t maximum) {
  if (!Has(name)) return;
  int64_t value = 0;
  Integer(name, &value, minimum, maximum);
  if (ok()) *out = value;
}

void ObjectReader::Unsigned(const char* name, uint64_t* out, Need need) {
  const void* found = Find(name, need);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<int64_t>() < 0)) {
    return Fail(name, "must be an integer that is not negative, " + Describe(value));
  }
  *out = value.get<uint64_t>();
}

void ObjectReader::Uint32(const char* name, uint32_t* out, Need need) {
  int64_t value = *out;
  Integer(name, &value, 0, UINT32_MAX, need);
  *out = static_cast<uint32_t>(value);
}

void ObjectReader::Strings(const char* name, std::vector<std::string>* out, Need need) {
  const void* found = Find(name, need);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_array()) return Fail(name, "must be an array of strings, " + Describe(value));
  for (size_t i = 0; i < value.size(); ++i) {
    std::string element = absl::StrCat(name, "[", i, "]");
    if (!value[i].is_string()) return Fail(element, "must be a string, " + Describe(value[i]));
    const auto& text = value[i].get_ref<const std::string&>();
    if (HasNul(text)) return Fail(element, "must not contain a NUL byte");
    out->push_back(text);
  }
}

void ObjectReader::Uint32s(const char* name, std::vector<uint32_t>* out) {
  const void* found = Find(name, Need::kOptional);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_array()) return Fail(name, "must be an array of integers, " + Describe(value));
  for (size_t i = 0; i < value.size(); ++i) {
    bool good = value[i].is_number_unsigned() && value[i].get<uint64_t>() <= UINT32_MAX;
    if (!good)
      return Fail(absl::StrCat(name, "[", i, "]"), "must be an integer in 0..4294967295, " + Describe(value[i]));
    out->push_back(value[i].get<uint32_t>());
  }
}

void ObjectReader::StringMap(const char* name, std::map<std::string, std::string>* out) {
  const void* found = Find(name, Need::kOptional);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_object()) return Fail(name, "must be an object of strings, " + Describe(value));
  for (const auto& [key, element] : value.items()) {
    std::string path = absl::StrCat(name, "[\"", key, "\"]");
    if (!element.is_string()) return Fail(path, "must be a string, " + Describe(element));
    const auto& text = element.get_ref<const std::string&>();
    if (HasNul(text) || HasNul(key)) return Fail(path, "must not contain a NUL byte");
    (*out)[key] = text;
  }
}

bool ObjectReader::Object(const char* name, const std::function<void(ObjectReader&)>& read, Need need) {
  const void* found = Find(name, need);
  if (!found) return false;
  if (!Json(found).is_object()) {
    Fail(name, "must be an object, " + Describe(Json(found)));
    return false;
  }
  ObjectReader reader(found, PathOf(name), &log_);
  read(reader);
  return true;
}

void ObjectReader::Objects(const char* name, const std::function<void(ObjectReader&, size_t)>& read) {
  const void* found = Find(name, Need::kOptional);
  if (!found) return;
  const json& value = Json(found);
  if (!value.is_array()) return Fail(name, "must be an array of objects, " + Describe(value));
  for (size_t i = 0; i < value.size() && ok(); ++i) {
    std::string element = absl::StrCat(name, "[", i, "]");
    if (!value[i].is_object()) return Fail(element, "must be an object, " + Describe(value[i]));
    ObjectReader reader(&value[i], PathOf(element), &log_);
    read(reader, i);
  }
}

void ObjectReader::Raw(const char* name, std::string* out) {
  const void* found = Find(name, Need::kOptional);
  if (found) *out = Json(found).dump(-1, ' ', false, json::error_handler_t::replace);
}

void ObjectReader::Ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void ObjectReader::WarnUnsupported(const char* name, const char* why) {
  const void* found = Find(name, Need::kOptional);
  if (!found || Json(found).empty() || Json(found) == "") return;
  log_.warnings.push_back(absl::StrCat(PathOf(name), ": not supported, ignored: ", why));
}

void ObjectReader::Warn(const std::string& name, const std::string& what) {
  log_.warnings.push_back(PathOf(name) + ": " + what);
}

absl::Status ReadJsonObject(const std::string& text, const std::string& path,
                            const std::function<void(ObjectReader&)>& read, std::vector<std::string>* warnings) {
  json document;
  DomBuilder builder(document);
  bool parsed = json::sax_parse(text, &builder);
  if (!parsed || builder.failed) {
    size_t at = std::min(builder.failed_at, text.size());
    // The position is that of the last byte read, counted from one.
    size_t last = at > 0 ? at - 1 : 0;
    size_t line = 1 + std::count(text.begin(), text.begin() + last, '\n');
    size_t line_start = last == 0 ? std::string::npos : text.rfind('\n', last - 1);
    size_t column = line_start == std::string::npos ? last + 1 : last - line_start;
    return absl::InvalidArgumentError(absl::StrCat("line ", line, ", column ", column, ": not valid JSON"));
  }
  if (!document.is_object()) return absl::InvalidArgumentError("not a JSON object");
  ReadLog log;
  {
    ObjectReader reader(&document, path, &log);
    read(reader);
  }
  if (warnings) warnings->insert(warnings->end(), log.warnings.begin(), log.warnings.end());
  return log.error;
}

absl::Status ReadSmallFile(const std::string& path, std::string* out) {
  // O_NONBLOCK: a FIFO must not hang us.
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.ok()) {
    std::string message = absl::StrCat(path, ": ", ErrnoText(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  }
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return absl::InternalError(absl::StrCat(path, ": ", ErrnoText(errno)));
  if (S_ISDIR(st.st_mode)) return absl::InvalidArgumentError(path + ": is a directory");
  if (!S_ISREG(st.st_mode)) return absl::InvalidArgumentError(path + ": not a regular file");
  if (st.st_size > kMaxFile) return absl::InvalidArgumentError(path + ": larger than 16 MiB");
  out->clear();
  char buffer[65536];
  while (true) {
    ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InternalError(absl::StrCat(path, ": read: ", ErrnoText(errno)));
    if (n == 0) return absl::OkStatus();
    out->append(buffer, n);
    if (out->size() > static_cast<size_t>(kMaxFile)) return absl::InvalidArgumentError(path + ": larger than 16 MiB");
  }
}

}  // namespace runsc::spec
