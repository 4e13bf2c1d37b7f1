#include "coordinator/service/page.h"

#include "tests/testing/status_matchers.h"

namespace weft::coordinator {
namespace {

using testing::StatusIs;

TEST(PageTest, SizesAreDefaultedAndBounded) {
  ASSERT_OK_AND_ASSIGN(Page page, ParsePage(0, "", ""));
  EXPECT_EQ(page.size, 50);
  ASSERT_OK_AND_ASSIGN(page, ParsePage(5000, "", ""));
  EXPECT_EQ(page.size, 1000);
  ASSERT_OK_AND_ASSIGN(page, ParsePage(7, "", ""));
  EXPECT_EQ(page.size, 7);
  EXPECT_THAT(ParsePage(-1, "", ""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PageTest, ATokenLeadsBackToItsPlaceInItsListOnly) {
  const std::string token = MakePageToken("entry 7/\n", "jobs state=RUNNING");
  ASSERT_OK_AND_ASSIGN(const Page page, ParsePage(0, token, "jobs state=RUNNING"));
  EXPECT_EQ(page.after, "entry 7/\n");
  EXPECT_THAT(ParsePage(0, token, "jobs "), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PageTest, ForeignTokensAreRefused) {
  std::string token = MakePageToken("7", "jobs");
  token.front() = token.front() == 'A' ? 'B' : 'A';
  for (const std::string& wrong :
       {token, std::string("x"), std::string("%%%"), std::string("AAAA")}) {
    EXPECT_THAT(ParsePage(0, wrong, "jobs"), StatusIs(absl::StatusCode::kInvalidArgument)) << wrong;
  }
}

}  // namespace
}  // namespace weft::coordinator
