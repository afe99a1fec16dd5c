// SPDX-License-Identifier: Apache-2.0
// The slave's side: reading, printing, modes. Typing is in line_editing.cc.
#include "sentry/fs/devpts/line_discipline.h"

#include <algorithm>

#include "sentry/fs/devpts/tty_ctype.h"

namespace sentry::fs {

void LineDiscipline::SetTermios(const Termios& termios) {
  const bool mode_changed = (termios.c_lflag ^ termios_.c_lflag) & ICANON;
  const bool was_stoppable = I(IXON);
  termios_ = termios;
  if (mode_changed) {
    literal_ = false;
    lines_ = 0;
    editable_ = 0;
    for (Cell& cell : input_) cell &= 0xff;
    // What was there can be read at once, as a line.
    if (canonical() && !input_.empty()) {
      input_.back() |= kLineEnd;
      lines_ = 1;
    }
  }
  // Nothing could be typed to restart it.
  if (was_stoppable && !I(IXON) && stopped_) Start();
  Pump();
}

LineDiscipline::ReadState LineDiscipline::CanRead(size_t wanted, bool nonblocking) const {
  if (canonical()) return lines_ > 0 ? ReadState::kReady : ReadState::kWait;
  const size_t have = input_.size();
  const size_t minimum = std::min<size_t>(termios_.c_cc[VMIN], wanted);
  const bool timed = termios_.c_cc[VTIME] != 0;
  if (termios_.c_cc[VMIN] == 0) {
    if (have > 0 || !timed) return ReadState::kReady;
    return ReadState::kTimedWait;
  }
  if (have >= minimum || (nonblocking && have > 0)) return ReadState::kReady;
  return timed && have > 0 ? ReadState::kTimedWait : ReadState::kWait;
}

size_t LineDiscipline::Read(uint8_t* to, size_t size) {
  size_t done = 0;
  while (!input_.empty()) {
    const Cell cell = input_.front();
    if (canonical() && lines_ == 0) break;
    // An end-of-file mark right behind the last byte that fits is used up with it.
    if (done == size && !(cell & kEof)) break;
    input_.pop_front();
    if (!(cell & kEof)) to[done++] = static_cast<uint8_t>(cell);
    if (cell & kLineEnd) {
      --lines_;
      if (canonical()) break;
    }
  }
  Pump();
  return done;
}

void LineDiscipline::Unread(std::string_view data) {
  if (data.empty()) return;
  for (size_t i = data.size(); i-- > 0;) input_.push_front(static_cast<uint8_t>(data[i]));
  if (!canonical()) return;
  input_[data.size() - 1] |= kLineEnd;
  ++lines_;
}

bool LineDiscipline::HasInput() const {
  if (canonical()) return lines_ > 0;
  // poll(2) waits for VMIN bytes only when no timer would end the read.
  const size_t minimum = termios_.c_cc[VTIME] == 0 && termios_.c_cc[VMIN] != 0 ? termios_.c_cc[VMIN] : 1;
  return input_.size() >= minimum;
}

size_t LineDiscipline::InputBytes() const {
  if (!canonical()) return input_.size();
  size_t lines = lines_, bytes = 0;
  for (auto it = input_.begin(); it != input_.end() && lines > 0; ++it) {
    if (!(*it & kEof)) ++bytes;
    if (*it & kLineEnd) --lines;
  }
  return bytes;
}

size_t LineDiscipline::Print(std::string_view data) {
  if (!CanPrint()) return 0;
  size_t done = 0;
  while (done < data.size() && output_.size() < kOutputLimit) {
    Process(static_cast<uint8_t>(data[done]), &output_);
    ++done;
  }
  return done;
}

void LineDiscipline::Process(uint8_t c, std::string* out) {
  if (!O(OPOST)) {
    out->push_back(static_cast<char>(c));
    return;
  }
  switch (c) {
    case '\n':
      if (O(ONLRET)) column_ = 0;
      if (O(ONLCR)) {
        column_ = 0;
        out->push_back('\r');
      }
      line_column_ = column_;
      break;
    case '\r':
      if (O(ONOCR) && column_ == 0) return;
      if (O(OCRNL)) {
        c = '\n';
        if (O(ONLRET)) column_ = 0;
      } else {
        column_ = 0;
      }
      line_column_ = column_;
      break;
    case '\t': {
      const int spaces = 8 - (column_ & 7);
      column_ += spaces;
      if ((termios_.c_oflag & TABDLY) == XTABS) {
        out->append(static_cast<size_t>(spaces), ' ');
        return;
      }
      break;
    }
    case '\b':
      if (column_ > 0) --column_;
      break;
    default:
      if (IsControl(c)) break;
      if (O(OLCUC)) c = ToUpper(c);
      if (!(I(IUTF8) && (c & 0xc0) == 0x80)) ++column_;
      break;
  }
  out->push_back(static_cast<char>(c));
}

std::string LineDiscipline::TakeOutput(size_t size) {
  std::string taken = output_.substr(0, size);
  output_.erase(0, taken.size());
  return taken;
}

void LineDiscipline::FlushInput() {
  incoming_.clear();
  input_.clear();
  lines_ = 0;
  editable_ = 0;
  literal_ = false;
}

void LineDiscipline::Start() {
  stopped_ = false;
  output_ += held_;
  held_.clear();
}

}  // namespace sentry::fs
