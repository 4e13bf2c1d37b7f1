#include "common/base/utf8.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(Utf8PrefixTest, ShortTextStaysWhole) {
  EXPECT_EQ(Utf8Prefix("", 0), "");
  EXPECT_EQ(Utf8Prefix("abc", 3), "abc");
  EXPECT_EQ(Utf8Prefix("Zoë", 4), "Zoë");
}

TEST(Utf8PrefixTest, NoCharacterIsCut) {
  EXPECT_EQ(Utf8Prefix("abc", 2), "ab");
  EXPECT_EQ(Utf8Prefix("Zoë", 3), "Zo");
  for (size_t bytes = 0; bytes < 3; ++bytes) EXPECT_EQ(Utf8Prefix("€uro", bytes), "") << bytes;
  EXPECT_EQ(Utf8Prefix("€uro", 3), "€");
  EXPECT_EQ(Utf8Prefix("a😀", 4), "a");
}

TEST(IsUtf8Test, KnowsText) {
  for (const char* text : {"", "abc\n", "Zoë", "€uro", "a😀"}) EXPECT_TRUE(IsUtf8(text)) << text;
  EXPECT_TRUE(IsUtf8(absl::string_view("a\0b", 3)));
}

TEST(IsUtf8Test, KnowsWhatIsNone) {
  EXPECT_FALSE(IsUtf8("x\xFFy"));
  EXPECT_FALSE(IsUtf8("Zo\xC3")) << "cut short";
  EXPECT_FALSE(IsUtf8("\xC0\x80")) << "longer than needed";
  EXPECT_FALSE(IsUtf8("\xED\xA0\x80")) << "a surrogate";
  EXPECT_FALSE(IsUtf8("\xF4\x90\x80\x80")) << "beyond U+10FFFF";
}

TEST(ToValidUtf8Test, KeepsGoodTextAndReplacesWhatIsNone) {
  const std::string good = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\t";
  EXPECT_EQ(ToValidUtf8(good), good);
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(ToValidUtf8("x\xFFy"), "x" + bad + "y");
  EXPECT_EQ(ToValidUtf8("\xC3"), bad) << "cut short";
  EXPECT_EQ(ToValidUtf8("\xC0\x80"), bad + bad) << "longer than needed";
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80"), bad + bad + bad) << "a surrogate";
}

}  // namespace
}  // namespace weft
