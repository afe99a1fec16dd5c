// SPDX-License-Identifier: Apache-2.0
#include "runsc/json_writer.h"

#include <cstdio>

namespace runsc {
namespace {

// Length of the UTF-8 sequence at `at`, 0 if it is malformed (RFC 3629: no surrogates, no overlong forms).
size_t Utf8Length(const std::string& s, size_t at) {
  unsigned char c = s[at];
  if (c < 0x80) return 1;
  size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
  if (c < 0xc2 || c > 0xf4 || at + length > s.size()) return 0;
  uint32_t code = c & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    unsigned char next = s[at + i];
    if ((next & 0xc0) != 0x80) return 0;
    code = code << 6 | (next & 0x3f);
  }
  constexpr uint32_t kMinimum[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kMinimum[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
  return length;
}

}  // namespace

std::string JsonString(const std::string& text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    size_t length = Utf8Length(text, i);
    unsigned char c = text[i];
    if (length == 0) {
      out += "\\ufffd";
      ++i;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7f) {
      char escaped[8];
      snprintf(escaped, sizeof escaped, "\\u%04x", c);
      out += escaped;
    } else {
      out.append(text, i, length);
    }
    i += length;
  }
  return out + "\"";
}

bool IsUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    size_t length = Utf8Length(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

void JsonWriter::NewLine() {
  if (indent_.empty()) return;
  text_ += '\n';
  for (int i = 0; i < depth_; ++i) text_ += indent_;
}

void JsonWriter::Prefix(const std::string& key) {
  if (depth_ > 0) {
    if (!first_) text_ += ',';
    NewLine();
  }
  first_ = false;
  if (!key.empty()) text_ += JsonString(key) + (indent_.empty() ? ":" : ": ");
}

void JsonWriter::Open(const std::string& key, char bracket) {
  Prefix(key);
  text_ += bracket;
  ++depth_;
  first_ = true;
}

void JsonWriter::Close(char bracket) {
  --depth_;
  if (!first_) NewLine();
  text_ += bracket;
  first_ = false;
}

void JsonWriter::Value(const std::string& key, const std::string& json) {
  Prefix(key);
  text_ += json;
}

void JsonWriter::Strings(const std::string& key, const std::vector<std::string>& values) {
  BeginArray(key);
  for (const std::string& value : values) String("", value);
  EndArray();
}

void JsonWriter::StringMap(const std::string& key, const std::map<std::string, std::string>& values) {
  BeginObject(key);
  for (const auto& [name, value] : values) {
    Prefix("");
    text_ += JsonString(name) + (indent_.empty() ? ":" : ": ") + JsonString(value);
  }
  EndObject();
}

}  // namespace runsc
