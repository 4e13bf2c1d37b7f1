#include "client/contexts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace weft::client {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::StatusIs;

TEST(Contexts, SurviveAFile) {
  const ::weft::testing::TempDir directory;
  Contexts contexts;
  contexts.current = "lab";
  contexts.by_name["lab"].address = "a:1,b:2";
  Context& secured = contexts.by_name["true"];
  secured.address = "c:3";
  secured.tls.ca = "/etc/weft/ca.crt";
  secured.tls.cert = "/etc/weft/tls.crt";
  secured.tls.key = "/etc/weft/tls.key";
  secured.tls_name = "weft.lab";
  const auto path = directory.path() / "deep" / "contexts.yaml";
  ASSERT_OK(WriteContexts(path, contexts));
  ASSERT_OK_AND_ASSIGN(const Contexts read, ReadContexts(path));
  EXPECT_EQ(read, contexts);
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(Contexts, AFileThatIsNotThereHoldsNone) {
  ASSERT_OK_AND_ASSIGN(const Contexts read, ReadContexts("/nowhere/contexts.yaml"));
  EXPECT_EQ(read, Contexts());
}

TEST(Contexts, SayWhatIsWrongWithAFile) {
  EXPECT_THAT(ParseContexts("f", "contexts: {lab: {adress: x}}"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f: contexts.lab: there is no field 'adress'; allowed: address")));
  EXPECT_THAT(ParseContexts("f", "contexts: {lab: {}}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("address: is required")));
  EXPECT_THAT(ParseContexts("f", "contexts: [1"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Contexts, NameThoseThatThereAre) {
  Contexts contexts;
  contexts.by_name["lab"].address = "a:1";
  EXPECT_THAT(contexts.Find("lap"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("there are: lab")));
}

}  // namespace
}  // namespace weft::client
