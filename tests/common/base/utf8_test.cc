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

}  // namespace
}  // namespace weft
