// Files for tests of training data.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "worker/data/token_stream.h"

namespace weft::worker {

class DataFilesTest : public ::testing::Test {
 protected:
  // Writes folder/name, with the folders it needs, and returns its path.
  std::string Put(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }
  std::string Path(const std::string& name) { return (folder_.path() / name).string(); }

  static std::vector<int32_t> ReadAll(const TokenStream& stream) {
    std::vector<int32_t> tokens(static_cast<size_t>(stream.size()));
    EXPECT_OK(stream.Read(0, absl::MakeSpan(tokens)));
    return tokens;
  }
  static std::string TextOf(const TokenStream& stream) {
    std::string text;
    for (int32_t token : ReadAll(stream)) text.push_back(static_cast<char>(token));
    return text;
  }
  static std::string Fingerprint(const std::vector<std::string>& paths) {
    auto stream = OpenByteText(paths);
    EXPECT_OK(stream);
    return stream.ok() ? (*stream)->fingerprint() : "";
  }

  testing::TempDir folder_;
};

}  // namespace weft::worker
