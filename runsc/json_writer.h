// SPDX-License-Identifier: Apache-2.0
// Writes JSON text: indented or on one line. Bytes that are not UTF-8 become U+FFFD.
#ifndef RUNSC_JSON_WRITER_H_
#define RUNSC_JSON_WRITER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace runsc {

// "text" with quotes and escapes.
std::string JsonString(const std::string& text);
bool IsUtf8(const std::string& text);

class JsonWriter {
 public:
  // `indent` is one level's, "" = everything on one line.
  explicit JsonWriter(std::string indent = "  ") : indent_(std::move(indent)) {}

  // `key` is empty in arrays and at the top.
  void BeginObject(const std::string& key = "") { Open(key, '{'); }
  void EndObject() { Close('}'); }
  void BeginArray(const std::string& key = "") { Open(key, '['); }
  void EndArray() { Close(']'); }
  void String(const std::string& key, const std::string& value) { Value(key, JsonString(value)); }
  void Number(const std::string& key, int64_t value) { Value(key, std::to_string(value)); }
  void Bool(const std::string& key, bool value) { Value(key, value ? "true" : "false"); }
  void Strings(const std::string& key, const std::vector<std::string>& values);
  void StringMap(const std::string& key, const std::map<std::string, std::string>& values);
  // `json` is valid JSON.
  void Value(const std::string& key, const std::string& json);

  const std::string& text() const { return text_; }

 private:
  void Prefix(const std::string& key);
  void Open(const std::string& key, char bracket);
  void Close(char bracket);
  void NewLine();

  std::string indent_;
  std::string text_;
  int depth_ = 0;
  bool first_ = true;
};

}  // namespace runsc

#endif  // RUNSC_JSON_WRITER_H_
