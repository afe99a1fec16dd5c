// SPDX-License-Identifier: Apache-2.0
// What typing does: input translation, special characters, editing of the current line, echo. Order and results as
// termios(3) and Linux's N_TTY have them.
#include <signal.h>

#include <algorithm>
#include <utility>

#include "sentry/fs/devpts/line_discipline.h"
#include "sentry/fs/devpts/tty_ctype.h"

namespace sentry::fs {
namespace {
// Echo is lost rather than stored without bound.
constexpr size_t kEchoSlack = 4096;
constexpr bool IsContinuation(uint8_t c) { return (c & 0xc0) == 0x80; }
}  // namespace

size_t LineDiscipline::Type(std::string_view data) {
  size_t done = 0;
  while (done < data.size()) {
    if (incoming_.empty() && !InputFull()) {
      Receive(static_cast<uint8_t>(data[done++]));
      continue;
    }
    const size_t n = std::min(data.size() - done, kIncomingLimit - incoming_.size());
    if (n == 0) break;
    incoming_.append(data.substr(done, n));
    done += n;
  }
  return done;
}

std::string LineDiscipline::TakeSignals() {
  std::string taken;
  taken.swap(signals_);
  return taken;
}

bool LineDiscipline::TakeArrived() { return std::exchange(arrived_, false); }

// An unfinished line that fills the input must not keep its own end out: what doesn't fit is dropped instead (Store).
bool LineDiscipline::InputFull() const { return input_.size() >= kInputLimit - 1 && (!canonical() || lines_ > 0); }

void LineDiscipline::Pump() {
  if (incoming_.empty() || pumping_) return;
  pumping_ = true;
  size_t used = 0;
  // A signal character may flush `incoming_` on the way.
  while (used < incoming_.size() && !InputFull()) {
    const uint8_t c = static_cast<uint8_t>(incoming_[used++]);
    Receive(c);
  }
  incoming_.erase(0, std::min(used, incoming_.size()));
  pumping_ = false;
}

void LineDiscipline::Receive(uint8_t c) {
  if (editable_ == 0) line_column_ = column_;
  if (literal_) {
    literal_ = false;
    if (I(ISTRIP)) c &= 0x7f;
    if (I(IUCLC) && L(IEXTEN)) c = ToLower(c);
    if (L(ECHO)) EchoByte(c);
    if (c == 0xff && I(PARMRK)) Store(c);
    Store(c);
    return;
  }
  if (I(ISTRIP)) c &= 0x7f;
  if (I(IUCLC) && L(IEXTEN)) c = ToLower(c);
  if (ReceiveFlow(c)) return;
  if (L(ISIG) && ReceiveSignal(c)) return;
  if (stopped_ && I(IXON) && I(IXANY)) Start();
  bool translated = false;
  if (c == '\r') {
    if (I(IGNCR)) return;
    if ((translated = I(ICRNL))) c = '\n';
  } else if (c == '\n' && I(INLCR)) {
    c = '\r';
  }
  if (canonical() && ReceiveEdit(c)) return;
  // Only outside canonical mode; there a typed newline shows as ^J.
  if (L(ECHO)) translated ? EchoRaw("\n") : EchoByte(c);
  if (c == 0xff && I(PARMRK)) Store(c);
  Store(c);
}

bool LineDiscipline::ReceiveFlow(uint8_t c) {
  if (!I(IXON)) return false;
  // One character may be both: it toggles.
  if (Is(c, VSTART) && (!Is(c, VSTOP) || stopped_)) {
    Start();
    return true;
  }
  if (Is(c, VSTOP)) {
    Stop();
    return true;
  }
  return false;
}

bool LineDiscipline::ReceiveSignal(uint8_t c) {
  int signal = 0;
  if (Is(c, VINTR)) {
    signal = SIGINT;
  } else if (Is(c, VQUIT)) {
    signal = SIGQUIT;
  } else if (Is(c, VSUSP)) {
    signal = SIGTSTP;
  } else {
    return false;
  }
  signals_.push_back(static_cast<char>(signal));
  if (!L(NOFLSH)) {
    // Bytes typed after the signal character stay.
    input_.clear();
    lines_ = 0;
    editable_ = 0;
    output_.clear();
    held_.clear();
  }
  if (I(IXON)) Start();
  if (L(ECHO)) EchoByte(c);
  return true;
}

bool LineDiscipline::ReceiveEdit(uint8_t c) {
  const bool extended = L(IEXTEN);
  if (Is(c, VERASE)) {
    Erase(c);
  } else if (Is(c, VKILL)) {
    Kill(c);
  } else if (extended && Is(c, VWERASE)) {
    EraseWord();
  } else if (extended && Is(c, VLNEXT)) {
    literal_ = true;
    if (L(ECHO) && L(ECHOCTL)) EchoRaw("^\b");
  } else if (extended && L(ECHO) && Is(c, VREPRINT)) {
    EchoByte(c);
    EchoRaw("\n");
    Reprint();
  } else if (c == '\n') {
    if (L(ECHO) || L(ECHONL)) EchoRaw("\n");
    EndLine(c);
  } else if (Is(c, VEOF)) {
    EndLine(kEof);
  } else if (Is(c, VEOL) || (extended && Is(c, VEOL2))) {
    if (L(ECHO)) EchoByte(c);
    if (c == 0xff && I(PARMRK)) Store(c);
    EndLine(c);
  } else {
    return false;
  }
  return true;
}

void LineDiscipline::Store(Cell cell) {
  if (canonical() && input_.size() >= kInputLimit - 1) return;
  input_.push_back(cell);
  ++editable_;
  arrived_ = true;
}

void LineDiscipline::EndLine(Cell cell) {
  input_.push_back(cell | kLineEnd);
  ++lines_;
  editable_ = 0;
  arrived_ = true;
}

int LineDiscipline::WidthOf(Cell cell, int column) const {
  const uint8_t c = static_cast<uint8_t>(cell);
  if (c == '\t') return 8 - (column & 7);
  if (IsControl(c)) return L(ECHOCTL) ? 2 : 0;
  return I(IUTF8) && IsContinuation(c) ? 0 : 1;
}

// How many bytes the last character of the line has.
size_t LineDiscipline::LastCharacter(uint8_t* first) const {
  size_t bytes = 1;
  auto at = [&] { return static_cast<uint8_t>(input_[input_.size() - bytes]); };
  while (I(IUTF8) && IsContinuation(at()) && bytes < editable_) ++bytes;
  *first = at();
  return bytes;
}

// The last character, and what is seen of it. False: only the end of a UTF-8 character is there, which stays.
bool LineDiscipline::EraseOne() {
  uint8_t c;
  const size_t bytes = LastCharacter(&c);
  if (I(IUTF8) && IsContinuation(c)) return false;
  input_.resize(input_.size() - bytes);
  editable_ -= bytes;
  if (!L(ECHO)) return true;
  if (c == '\t') {
    int column = line_column_;
    for (size_t i = input_.size() - editable_; i < input_.size(); ++i) column += WidthOf(input_[i], column);
    for (int n = 8 - (column & 7); n > 0; --n) EchoRaw("\b");
    return true;
  }
  const int width = IsControl(c) ? (L(ECHOCTL) ? 2 : 0) : 1;
  for (int i = 0; i < width; ++i) EchoRaw("\b \b");
  return true;
}

void LineDiscipline::Erase(uint8_t c) {
  if (editable_ == 0) return;
  if (L(ECHOE) || !L(ECHO)) {
    EraseOne();
    return;
  }
  // Without ECHOE the erase character itself is shown.
  termios_.c_lflag &= ~static_cast<unsigned>(ECHO);
  const bool erased = EraseOne();
  termios_.c_lflag |= ECHO;
  if (erased) EchoByte(c);
}

void LineDiscipline::EraseWord() {
  bool seen_word = false;
  while (editable_ > 0) {
    uint8_t c;
    LastCharacter(&c);
    const bool is_word = IsAlphanumeric(c) || c == '_';
    if (seen_word && !is_word) break;
    seen_word |= is_word;
    if (!EraseOne()) break;
  }
}

void LineDiscipline::Kill(uint8_t c) {
  if (editable_ == 0) return;
  if (L(ECHO) && L(ECHOK) && L(ECHOKE) && L(ECHOE)) {
    while (editable_ > 0 && EraseOne()) {
    }
    return;
  }
  input_.resize(input_.size() - editable_);
  editable_ = 0;
  if (!L(ECHO)) return;
  EchoByte(c);
  // Linux's way to show that the line is gone.
  if (L(ECHOK)) EchoRaw("\n");
}

void LineDiscipline::Reprint() {
  for (size_t i = input_.size() - editable_; i < input_.size(); ++i) {
    EchoByte(static_cast<uint8_t>(input_[i]));
  }
}

void LineDiscipline::EchoByte(uint8_t c) {
  if (L(ECHOCTL) && IsControl(c) && c != '\t') {
    const char text[2] = {'^', static_cast<char>(c ^ 0x40)};
    Put({text, 2});
    column_ += 2;
    return;
  }
  const char text = static_cast<char>(c);
  if (c == 0xff) {
    // The mark of Linux's echo buffer goes out as it is.
    Put({&text, 1});
    ++column_;
    return;
  }
  EchoRaw({&text, 1});
}

void LineDiscipline::EchoRaw(std::string_view text) {
  std::string processed;
  for (char c : text) Process(static_cast<uint8_t>(c), &processed);
  Put(processed);
}

void LineDiscipline::Put(std::string_view text) {
  std::string& to = stopped_ ? held_ : output_;
  if (to.size() + text.size() > (stopped_ ? kEchoSlack : kOutputLimit + kEchoSlack)) return;
  to += text;
}

}  // namespace sentry::fs
