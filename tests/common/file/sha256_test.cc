#include "common/file/sha256.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/testing/faulty_file_system.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using testing::IsOkAndHolds;
using testing::StatusIs;

// FIPS 180-2, appendix B.
constexpr char kOfAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kOfNothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr char kOfMillionA[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256Test, MatchesTheStandard) {
  EXPECT_EQ(Sha256Of("abc"), kOfAbc);
  EXPECT_EQ(Sha256Of(""), kOfNothing);
  EXPECT_EQ(Sha256Of(std::string(1'000'000, 'a')), kOfMillionA);
}

TEST(Sha256Test, PiecesMakeNoDifference) {
  Sha256 hash;
  hash.Update("a");
  hash.Update("");
  hash.Update("bc");
  EXPECT_EQ(hash.Finish(), kOfAbc);
}

TEST(Sha256Test, IntegersAreEightBytesLowestFirst) {
  Sha256 hash;
  hash.UpdateInteger(0x0102);
  EXPECT_EQ(hash.Finish(), Sha256Of(std::string("\x02\x01\0\0\0\0\0\0", 8)));
}

TEST(Sha256Test, FilesLargerThanABlockAreReadWhole) {
  testing::FaultyFileSystem files;
  const std::string bytes(9'000'000, 'q');
  const absl::string_view piece = bytes;
  ASSERT_OK(files.Write("/f", absl::MakeConstSpan(&piece, 1)));
  EXPECT_THAT(Sha256OfFile(files, "/f"), IsOkAndHolds(Sha256Of(bytes)));
  EXPECT_THAT(Sha256OfFile(files, "/absent"), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace weft
