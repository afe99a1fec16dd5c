// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/devpts/line_discipline.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <random>

namespace sentry::fs {
namespace {

using State = LineDiscipline::ReadState;

class LineDisciplineTest : public testing::Test {
 protected:
  void Change(const std::function<void(Termios&)>& change) {
    Termios t = line_.termios();
    change(t);
    line_.SetTermios(t);
  }
  void NoEcho() {
    Change([](Termios& t) { t.c_lflag &= ~ECHO; });
  }
  void Raw(int min = 1, int time = 0) {
    Change([&](Termios& t) {
      t.c_iflag = 0;
      t.c_oflag = 0;
      t.c_lflag = 0;
      t.c_cc[VMIN] = static_cast<cc_t>(min);
      t.c_cc[VTIME] = static_cast<cc_t>(time);
    });
  }
  void Type(std::string_view text) { ASSERT_EQ(line_.Type(text), text.size()); }
  std::string Read(size_t size = 8192) {
    std::string text(size, 0);
    text.resize(line_.Read(reinterpret_cast<uint8_t*>(text.data()), size));
    return text;
  }
  std::string Output() { return line_.TakeOutput(1 << 20); }
  bool Ready(size_t wanted = 100) { return line_.CanRead(wanted, false) == State::kReady; }
  LineDiscipline line_;
};

TEST_F(LineDisciplineTest, LinesComeOneByOne) {
  Type("ab");
  EXPECT_FALSE(Ready());
  EXPECT_FALSE(line_.HasInput());
  Type("c\nde\nf");
  EXPECT_EQ(line_.InputBytes(), 7u);
  EXPECT_EQ(Read(), "abc\n");
  EXPECT_EQ(Read(1), "d");
  EXPECT_EQ(Read(), "e\n");
  EXPECT_FALSE(Ready());
}

TEST_F(LineDisciplineTest, EraseWordAndKill) {
  Type("abx\177c\n");
  EXPECT_EQ(Read(), "abc\n");
  Type("one two_2  \027three\n");
  EXPECT_EQ(Read(), "one three\n");
  Type("junk\025ok\n");
  EXPECT_EQ(Read(), "ok\n");
}

TEST_F(LineDisciplineTest, EraseStopsAtTheLine) {
  Type("a\n\177\177b\n");
  EXPECT_EQ(Read(), "a\n");
  EXPECT_EQ(Read(), "b\n");
}

TEST_F(LineDisciplineTest, EraseEchoes) {
  Type("a\177");
  EXPECT_EQ(Output(), "a\b \b");
  Type("\001\177");
  EXPECT_EQ(Output(), "^A\b \b\b \b");
  Type("ab\t\177");
  EXPECT_EQ(Output(), "ab\t\b\b\b\b\b\b");
  Change([](Termios& t) { t.c_lflag &= ~ECHOE; });
  Type("\177");
  EXPECT_EQ(Output(), "^?");
}

TEST_F(LineDisciplineTest, EraseTakesWholeUtf8Characters) {
  Change([](Termios& t) { t.c_iflag |= IUTF8; });
  Type("a\xc3\xa9\177\n");
  EXPECT_EQ(Read(), "a\n");
  EXPECT_EQ(Output(), "a\xc3\xa9\b \b\r\n");
}

TEST_F(LineDisciplineTest, KillEchoesWithAndWithoutEchoke) {
  Type("ab\025");
  EXPECT_EQ(Output(), "ab\b \b\b \b");
  Change([](Termios& t) { t.c_lflag &= ~ECHOKE; });
  Type("ab\025");
  EXPECT_EQ(Output(), "ab^U\r\n");
}

TEST_F(LineDisciplineTest, EndOfFile) {
  Type("ab\004");
  EXPECT_EQ(Read(), "ab");
  EXPECT_FALSE(Ready());
  Type("\004");
  EXPECT_TRUE(Ready());
  EXPECT_EQ(line_.InputBytes(), 0u);
  EXPECT_EQ(Read(), "");
  EXPECT_FALSE(Ready());
  EXPECT_EQ(Output(), "ab");
}

TEST_F(LineDisciplineTest, EndOfFileBehindAFullBufferIsUsedUp) {
  Type("ab\004");
  EXPECT_EQ(Read(2), "ab");
  EXPECT_FALSE(Ready());
}

TEST_F(LineDisciplineTest, EndOfLineCharacters) {
  Change([](Termios& t) {
    t.c_cc[VEOL] = '!';
    t.c_cc[VEOL2] = '?';
  });
  Type("a!b?c");
  EXPECT_EQ(Read(), "a!");
  EXPECT_EQ(Read(), "b?");
  EXPECT_FALSE(Ready());
}

TEST_F(LineDisciplineTest, LiteralNext) {
  Type("\026\003x\026\177\n");
  EXPECT_EQ(line_.TakeSignals(), "");
  EXPECT_EQ(Read(), "\003x\177\n");
  EXPECT_EQ(Output(), "^\b^Cx^\b^?\r\n");
}

TEST_F(LineDisciplineTest, Reprint) {
  Type("ab\022");
  EXPECT_EQ(Output(), "ab^R\r\nab");
}

TEST_F(LineDisciplineTest, EchonlEchoesOnlyTheNewline) {
  NoEcho();
  Change([](Termios& t) { t.c_lflag |= ECHONL; });
  Type("secret\n");
  EXPECT_EQ(Output(), "\r\n");
  EXPECT_EQ(Read(), "secret\n");
}

TEST_F(LineDisciplineTest, InputTranslation) {
  NoEcho();
  Type("a\r");
  EXPECT_EQ(Read(), "a\n");
  Change([](Termios& t) { t.c_iflag = IGNCR | INLCR | ISTRIP; });
  Type("b\r\n\xe1\004");
  EXPECT_EQ(Read(), "b\ra");
  Change([](Termios& t) { t.c_iflag = IUCLC; });
  Type("ABC\n");
  EXPECT_EQ(Read(), "abc\n");
  Change([](Termios& t) { t.c_iflag = PARMRK; });
  Type("\xff\n");
  EXPECT_EQ(Read(), "\xff\xff\n");
}

TEST_F(LineDisciplineTest, SignalsFlushUnlessToldNot) {
  Type("abc");
  Output();
  ASSERT_EQ(line_.Print("out"), 3u);
  Type("\003");
  EXPECT_EQ(line_.TakeSignals(), std::string(1, SIGINT));
  EXPECT_EQ(Output(), "^C");
  Type("\n");
  EXPECT_EQ(Read(), "\n");
  Change([](Termios& t) { t.c_lflag |= NOFLSH; });
  Type("abc\034\032\n");
  EXPECT_EQ(line_.TakeSignals(), std::string({SIGQUIT, SIGTSTP}));
  EXPECT_EQ(Read(), "abc\n");
  EXPECT_EQ(line_.TakeSignals(), "");
}

TEST_F(LineDisciplineTest, DisabledCharactersAreData) {
  Change([](Termios& t) { t.c_cc[VINTR] = 0; });
  Type(std::string_view("\0\003\n", 3));
  EXPECT_EQ(line_.TakeSignals(), "");
  EXPECT_EQ(Read(), std::string("\0\003\n", 3));
}

TEST_F(LineDisciplineTest, OutputTranslation) {
  ASSERT_EQ(line_.Print("a\nb"), 3u);
  EXPECT_EQ(Output(), "a\r\nb");
  Change([](Termios& t) { t.c_oflag = OPOST | OCRNL | XTABS; });
  line_.Print("\r");
  EXPECT_EQ(Output(), "\n");
  Change([](Termios& t) { t.c_oflag = OPOST | ONOCR | XTABS; });
  line_.Print("\r");
  Output();
  line_.Print("\rab\tc\b\t");
  EXPECT_EQ(Output(), "ab      c\b        ");
  Change([](Termios& t) { t.c_oflag = OPOST | OLCUC; });
  line_.Print("aB");
  EXPECT_EQ(Output(), "AB");
  Change([](Termios& t) { t.c_oflag = 0; });
  line_.Print("a\n\t");
  EXPECT_EQ(Output(), "a\n\t");
}

TEST_F(LineDisciplineTest, FlowControlHoldsOutputAndEcho) {
  Type("\023");
  EXPECT_FALSE(line_.CanPrint());
  EXPECT_EQ(line_.Print("x"), 0u);
  Type("e");
  EXPECT_EQ(Output(), "");
  Type("\021");
  EXPECT_EQ(Output(), "e");
  EXPECT_EQ(line_.Print("x"), 1u);
  Type("\023");
  Change([](Termios& t) { t.c_iflag |= IXANY; });
  Type("y");
  EXPECT_TRUE(line_.CanPrint());
  Type("\023");
  Change([](Termios& t) { t.c_iflag &= ~IXON; });
  EXPECT_TRUE(line_.CanPrint()) << "nothing could restart it";
}

TEST_F(LineDisciplineTest, RawPassesEverything) {
  Raw();
  Type("\003\r\004\177\n\xff");
  EXPECT_EQ(Read(), "\003\r\004\177\n\xff");
  EXPECT_EQ(Output(), "");
}

TEST_F(LineDisciplineTest, MinAndTime) {
  Raw(3);
  Type("ab");
  EXPECT_FALSE(Ready());
  EXPECT_FALSE(line_.HasInput());
  EXPECT_TRUE(Ready(2)) << "a smaller read needs no more than it can take";
  EXPECT_EQ(line_.CanRead(100, true), State::kReady);
  Type("c");
  EXPECT_TRUE(Ready());
  EXPECT_EQ(Read(), "abc");
  Raw(0);
  EXPECT_TRUE(Ready());
  EXPECT_FALSE(line_.HasInput());
  Raw(0, 5);
  EXPECT_EQ(line_.CanRead(1, false), State::kTimedWait);
  Raw(2, 5);
  EXPECT_EQ(line_.CanRead(2, false), State::kWait);
  Type("x");
  EXPECT_EQ(line_.CanRead(2, false), State::kTimedWait);
  EXPECT_TRUE(line_.HasInput());
}

TEST_F(LineDisciplineTest, ChangingModesKeepsTheInput) {
  NoEcho();
  Type("half");
  Change([](Termios& t) { t.c_lflag &= ~ICANON; });
  EXPECT_EQ(Read(2), "ha");
  Change([](Termios& t) { t.c_lflag |= ICANON; });
  EXPECT_EQ(Read(), "lf");
  Type("x\n\004");
  Change([](Termios& t) { t.c_lflag &= ~ICANON; });
  EXPECT_EQ(Read(), std::string("x\n\0", 3));
}

TEST_F(LineDisciplineTest, AnOverlongLineStillEnds) {
  NoEcho();
  const std::string text(6000, 'x');
  Type(text);
  Type("\n");
  EXPECT_EQ(Read(), std::string(4095, 'x') + "\n");
}

TEST_F(LineDisciplineTest, TypingWaitsForTheReader) {
  Raw();
  const std::string text(LineDiscipline::kInputLimit - 1 + LineDiscipline::kIncomingLimit + 100, 'x');
  const size_t taken = line_.Type(text);
  EXPECT_EQ(taken, text.size() - 100);
  EXPECT_FALSE(line_.CanType());
  EXPECT_EQ(line_.Type("y"), 0u);
  size_t got = 0;
  for (std::string part; !(part = Read()).empty();) got += part.size();
  EXPECT_EQ(got, taken);
  EXPECT_TRUE(line_.CanType());
}

TEST_F(LineDisciplineTest, PrintingStopsAtTheLimit) {
  const std::string text(100000, 'x');
  const size_t taken = line_.Print(text);
  EXPECT_EQ(taken, LineDiscipline::kOutputLimit);
  EXPECT_FALSE(line_.CanPrint());
  EXPECT_EQ(line_.TakeOutput(10).size(), 10u);
  line_.UntakeOutput("0123456789");
  EXPECT_EQ(line_.TakeOutput(11), "0123456789x");
}

TEST_F(LineDisciplineTest, UnreadGivesTheSameAgain) {
  NoEcho();
  Type("abc\nde\n");
  EXPECT_EQ(Read(), "abc\n");
  line_.Unread("bc\n");
  EXPECT_EQ(Read(), "bc\n");
  EXPECT_EQ(Read(), "de\n");
  EXPECT_FALSE(Ready());
}

TEST_F(LineDisciplineTest, FlushInputForgetsHalfALine) {
  NoEcho();
  Type("abc\nde");
  line_.FlushInput();
  EXPECT_FALSE(Ready());
  Type("\177f\n");
  EXPECT_EQ(Read(), "f\n");
}

// Whatever comes in whatever mode: bounded, no crash, and what can be read is counted right.
TEST_F(LineDisciplineTest, RandomTyping) {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    switch (random() % 8) {
      case 0:
        Change([&](Termios& t) {
          t.c_iflag = random();
          t.c_oflag = random();
          t.c_lflag = random();
          t.c_cc[random() % NCCS] = static_cast<cc_t>(random());
        });
        break;
      case 1:
        Read(random() % 5000);
        break;
      case 2:
        Output();
        break;
      case 3:
        line_.Print(std::string(random() % 100, static_cast<char>(random())));
        break;
      case 4:
        if (random() % 16 == 0) line_.FlushInput();
        break;
      default: {
        std::string text(random() % 200, 0);
        for (char& c : text) c = static_cast<char>(random() % 4 ? random() % 40 : random());
        line_.Type(text);
        line_.TakeSignals();
        break;
      }
    }
    ASSERT_LE(line_.InputBytes(), 2 * LineDiscipline::kInputLimit);
    ASSERT_LE(line_.OutputBytes(), 2 * LineDiscipline::kOutputLimit);
    if (!line_.canonical()) {
      const size_t bytes = line_.InputBytes();
      ASSERT_LE(Read(bytes).size(), bytes);
    }
  }
}

}  // namespace
}  // namespace sentry::fs
