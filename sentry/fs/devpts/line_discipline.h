// SPDX-License-Identifier: Apache-2.0
// LineDiscipline: the N_TTY rules between a master and a slave (termios(3)): editing and echo of what is typed,
// translation of what is printed, flow control, and which signals are to be sent. Pure state, no locks: the Tty's.
//
//   master write -> Type() -> [incoming] -> editing -> [input] -> Read() by the slave
//   slave write  -> Print() -> translation ------------> [output] -> TakeOutput() by the master; echo goes here, too
#ifndef SENTRY_FS_DEVPTS_LINE_DISCIPLINE_H_
#define SENTRY_FS_DEVPTS_LINE_DISCIPLINE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "sentry/fs/devpts/termios.h"

namespace sentry::fs {

class LineDiscipline {
 public:
  static constexpr size_t kInputLimit = 4096;      // N_TTY_BUF_SIZE: a line has at most 4095 bytes and its end
  static constexpr size_t kIncomingLimit = 65536;  // typed, not yet looked at since the input is full
  static constexpr size_t kOutputLimit = 65536;

  const Termios& termios() const { return termios_; }
  // TCSETS: what is in the input changes its meaning with ICANON as on Linux.
  void SetTermios(const Termios& termios);
  bool canonical() const { return termios_.c_lflag & ICANON; }

  // Typed bytes; how many were taken (0: full).
  size_t Type(std::string_view data);
  // SIGINT, SIGQUIT, SIGTSTP that typing called for since the last call, in order, for the foreground group.
  std::string TakeSignals();
  // Bytes that became typed since the last call; for VTIME.
  bool TakeArrived();

  // What a read(2) of `wanted` bytes finds.
  enum class ReadState : uint8_t { kReady, kWait, kTimedWait };
  // `nonblocking` takes fewer than VMIN bytes. kTimedWait: wait for at most VTIME tenths of a second (since the last
  // byte, if there is one).
  ReadState CanRead(size_t wanted, bool nonblocking) const;
  // Takes up to `size` bytes: of one line in canonical mode, where an end-of-file mark alone gives 0.
  size_t Read(uint8_t* to, size_t size);
  // Puts back what the reader couldn't store (a fault), as plain bytes.
  void Unread(std::string_view data);
  // For poll(2), and FIONREAD.
  bool HasInput() const;
  size_t InputBytes() const;

  // Printed bytes; how many were taken: 0 when the output is full or stopped.
  size_t Print(std::string_view data);
  bool CanPrint() const { return !stopped_ && output_.size() < kOutputLimit; }
  size_t OutputBytes() const { return output_.size(); }
  // The oldest bytes of the output, at most `size`; and what of them could not be stored, back again.
  std::string TakeOutput(size_t size);
  void UntakeOutput(std::string_view data) { output_.insert(0, data); }
  // Typing would take at least a byte.
  bool CanType() const { return incoming_.size() < kIncomingLimit; }

  // tcflush(3), of the slave's view.
  void FlushInput();
  void FlushOutput() { output_.clear(); }
  // XOFF and XON by character or tcflow(3).
  void Stop() { stopped_ = true; }
  void Start();
  bool stopped() const { return stopped_; }

 private:
  // Cells of the input: a byte, perhaps the end of a line; an end-of-file mark is an end without a byte to deliver.
  using Cell = uint16_t;
  static constexpr Cell kLineEnd = 0x100, kEof = 0x200;

  bool L(unsigned flag) const { return termios_.c_lflag & flag; }
  bool I(unsigned flag) const { return termios_.c_iflag & flag; }
  bool O(unsigned flag) const { return termios_.c_oflag & flag; }
  // Is `c` the (enabled) control character?
  bool Is(uint8_t c, int index) const { return termios_.c_cc[index] == c && c != 0; }
  bool InputFull() const;
  void Pump();
  void Receive(uint8_t c);
  bool ReceiveFlow(uint8_t c);
  bool ReceiveSignal(uint8_t c);
  bool ReceiveEdit(uint8_t c);
  void Store(Cell cell);
  void EndLine(Cell cell);

  void Erase(uint8_t c);
  void EraseWord();
  void Kill(uint8_t c);
  size_t LastCharacter(uint8_t* first) const;
  bool EraseOne();
  void Reprint();
  int WidthOf(Cell cell, int column) const;

  void EchoByte(uint8_t c);
  void EchoRaw(std::string_view text);
  void Put(std::string_view text);  // output, or held while it is stopped
  // One byte through OPOST.
  void Process(uint8_t c, std::string* out);

  Termios termios_ = DefaultTermios();
  std::string incoming_;
  std::deque<Cell> input_;
  size_t lines_ = 0;     // ends in the input
  size_t editable_ = 0;  // cells behind the last end: the line being typed
  std::string output_;
  std::string held_;  // echo while stopped
  std::string signals_;
  bool stopped_ = false;
  bool literal_ = false;  // the next byte is taken as it is (VLNEXT)
  bool arrived_ = false;
  bool pumping_ = false;
  int column_ = 0;       // of the output
  int line_column_ = 0;  // where the line being typed began
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_LINE_DISCIPLINE_H_
