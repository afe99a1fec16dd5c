// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/unix/message.h"

#include <gtest/gtest.h>
#include <string.h>
#include <sys/un.h>

#include "sentry/socket/unix/names.h"

namespace sentry::socket {
namespace {

std::unique_ptr<Message> Of(std::string_view text) {
  auto message = Message::New(text.size() + 8);
  memcpy(message->tail(), text.data(), text.size());
  message->Grow(text.size());
  return message;
}

std::string TextOf(Message& message) { return std::string(reinterpret_cast<char*>(message.data()), message.size()); }

class Purse final : public Message::Payer {
 public:
  void Refund(size_t charge) override { refunded += charge; }
  size_t refunded = 0;
};

TEST(MessageTest, GrowsAndConsumes) {
  auto message = Of("abc");
  EXPECT_EQ(message->room(), 8u);
  message->Consume(1);
  EXPECT_EQ(TextOf(*message), "bc");
  EXPECT_EQ(message->room(), 8u);
}

TEST(MessageTest, RefundsOnce) {
  auto purse = MakeRef<Purse>();
  {
    MessageList list;
    for (size_t charge : {3, 4}) {
      auto message = Of("x");
      message->payer = purse;
      message->charge = charge;
      list.PushBack(std::move(message));
    }
    list.PopFront();
    EXPECT_EQ(purse->refunded, 3u);
  }
  EXPECT_EQ(purse->refunded, 7u);
}

TEST(MessageListTest, KeepsOrderAndCounts) {
  MessageList list;
  for (const char* text : {"one", "two", "three"}) list.PushBack(Of(text));
  EXPECT_EQ(list.count(), 3u);
  EXPECT_EQ(list.bytes(), 11u);
  EXPECT_EQ(TextOf(*list.PopAfter(list.front())), "two");
  EXPECT_EQ(TextOf(*list.back()), "three");
  EXPECT_EQ(TextOf(*list.PopAfter(list.front())), "three");
  EXPECT_EQ(list.back(), list.front()) << "the tail went";
  list.PushBack(Of("four"));
  EXPECT_EQ(TextOf(*list.PopFront()), "one");
  EXPECT_EQ(TextOf(*list.PopFront()), "four");
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.PopFront(), nullptr);
}

std::string Sockaddr(std::string_view name, sa_family_t family = AF_UNIX) {
  return OptionBytes(&family, sizeof family) + std::string(name);
}

TEST(UnixNameTest, Kinds) {
  using Kind = ParsedUnixName::Kind;
  EXPECT_EQ(ParseUnixName(Sockaddr(""))->kind, Kind::kUnnamed);
  auto abstract = ParseUnixName(Sockaddr(std::string_view("\0a\0b", 4)));
  EXPECT_EQ(abstract->kind, Kind::kAbstract);
  EXPECT_EQ(abstract->bytes.size(), 6u);
  auto path = ParseUnixName(Sockaddr(std::string_view("/s\0junk", 7)));
  EXPECT_EQ(path->kind, Kind::kPath);
  EXPECT_EQ(path->path, "/s");
  EXPECT_EQ(path->bytes, Sockaddr(std::string_view("/s\0", 3)));
  EXPECT_EQ(ParseUnixName(Sockaddr(std::string(108, 'x')))->bytes.size(), 2 + 108 + 1u)
      << "terminated though the guest had no room";
}

TEST(UnixNameTest, Refused) {
  for (const std::string& bad :
       {std::string("x"), std::string(), Sockaddr("/s", AF_INET), Sockaddr(std::string(109, 'x'))}) {
    EXPECT_EQ(ParseUnixName(bad).error_number(), EINVAL);
  }
}

}  // namespace
}  // namespace sentry::socket
