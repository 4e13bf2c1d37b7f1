#include "worker/data/readers/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weft::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> WordsOf(absl::string_view text) {
  std::vector<std::string> words;
  for (absl::string_view word; ConsumeWord(text, word);) words.emplace_back(word);
  return words;
}

TEST(WordsTest, SplitsAtWhiteSpace) {
  EXPECT_THAT(WordsOf(" = Valkyria Chronicles III = \t x\r"),
              ElementsAre("=", "Valkyria", "Chronicles", "III", "=", "x"));
  EXPECT_THAT(WordsOf("one"), ElementsAre("one"));
  EXPECT_THAT(WordsOf(" \n\x1c\x1f"), IsEmpty());
  EXPECT_THAT(WordsOf(""), IsEmpty());
}

// The characters for which Python's str.isspace() holds.
TEST(WordsTest, KnowsTheSpacesOfUnicode) {
  for (const std::string space : {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2005", "\u200A",
                                  "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"}) {
    EXPECT_THAT(WordsOf("a" + space + "b" + space), ElementsAre("a", "b"));
  }
}

TEST(WordsTest, OtherCharactersBelongToWords) {
  for (const std::string letter :
       {"\u00E4", "\u200B", "\u2010", "\u2060", "\u3001", "\u1681", "\x80", "\xC2", "\xE2\x80"}) {
    EXPECT_THAT(WordsOf("a" + letter + " b" + letter), ElementsAre("a" + letter, "b" + letter));
  }
}

}  // namespace
}  // namespace weft::worker
