#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"
#include "common/file/sha256.h"
#include "worker/data/basic_sample_source.h"
#include "worker/data/content_hash.h"
#include "worker/data/readers/line_file.h"
#include "worker/data/readers/pixels.h"
#include "worker/data/readers/png_image.h"
#include "worker/data/readers/readers.h"

namespace weft::worker {
namespace {

struct Image {
  std::string path;  // relative to the folder
  int32_t label = 0;
};

struct Listing {
  std::vector<Image> images;
  int64_t empty_files = 0;
};

// metadata/<n>.npy, n ascending.
absl::StatusOr<std::vector<std::string>> FindMetadata(const std::string& folder) {
  const std::string metadata = JoinPath(folder, "metadata");
  WEFT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, RealFileSystem().List(metadata));
  std::vector<std::pair<int64_t, std::string>> found;
  for (const DirectoryEntry& entry : entries) {
    absl::string_view name = entry.name;
    int64_t number = 0;
    if (absl::ConsumeSuffix(&name, ".npy") && absl::SimpleAtoi(name, &number)) {
      found.emplace_back(number, JoinPath(metadata, entry.name));
    }
  }
  if (found.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(metadata, " has no file <number>.npy; expected those of Pathfinder"));
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (auto& [number, path] : found) paths.push_back(std::move(path));
  return paths;
}

absl::StatusOr<Image> ParseLine(const LineFile& file, int64_t line) {
  const std::vector<absl::string_view> fields = absl::StrSplit(file.Line(line), ' ');
  if (fields.size() < 4 || (fields[3] != "0" && fields[3] != "1")) {
    return file.Error(line,
                      "expected a folder, a file name, a number and a label (0 or 1) between "
                      "single spaces");
  }
  return Image{JoinPath(fields[0], fields[1]), fields[3] == "1" ? 1 : 0};
}

// Images that exist and have bytes.
absl::StatusOr<Listing> ListImages(const std::string& folder, Sha256& hash) {
  Listing listing;
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> metadata, FindMetadata(folder));
  for (const std::string& path : metadata) {
    WEFT_ASSIGN_OR_RETURN(const LineFile file, LineFile::Open(path));
    for (int64_t line = 0; line < file.lines(); ++line) {
      if (file.Line(line).empty()) continue;
      WEFT_ASSIGN_OR_RETURN(Image image, ParseLine(file, line));
      const absl::StatusOr<std::string> content =
          ReadFile(RealFileSystem(), JoinPath(folder, image.path));
      if (!content.ok()) return file.Error(line, content.status().message());
      if (content->empty()) {
        ++listing.empty_files;
        continue;
      }
      hash.Update(image.path);
      hash.UpdateInteger(static_cast<uint64_t>(image.label));
      HashContents(*content, hash);
      listing.images.push_back(std::move(image));
    }
  }
  return listing;
}

class PathfinderReader : public BasicSampleSource {
 public:
  PathfinderReader(SampleSourceFacts facts, std::string folder, std::vector<Image> images,
                   int64_t validation_first)
      : BasicSampleSource(std::move(facts)),
        folder_(std::move(folder)),
        images_(std::move(images)),
        validation_first_(validation_first) {}

  absl::Status Read(Split split, int64_t sample, const SampleBuffers& into) const override {
    CheckRead(split, sample, into);
    const int64_t first = split == Split::kTrain ? 0 : validation_first_;
    const Image& image = images_[static_cast<size_t>(first + sample)];
    const std::string path = JoinPath(folder_, image.path);
    WEFT_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(RealFileSystem(), path));
    const absl::StatusOr<GreyImage> decoded = DecodeGreyPng(bytes);
    if (!decoded.ok()) {
      return absl::DataLossError(absl::StrCat(path, ": ", decoded.status().message()));
    }
    const int64_t pixels = decoded->width * decoded->height;
    if (decoded->width != decoded->height || pixels != shape().sequence) {
      return absl::DataLossError(absl::StrCat(path, " has ", decoded->width, " x ", decoded->height,
                                              " pixels; expected a square of ", shape().sequence));
    }
    std::copy(decoded->pixels.begin(), decoded->pixels.end(), into.tokens.begin());
    MaskZeroPixels(into);
    into.targets[0] = image.label;
    return absl::OkStatus();
  }

 private:
  std::string folder_;
  std::vector<Image> images_;
  int64_t validation_first_;
};

}  // namespace

SampleSourceOr OpenPathfinder(const PathfinderFiles& files, int64_t sequence, HeldOut held_out) {
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(sequence))));
  if (side * side != sequence) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a Pathfinder image is a square, so the sequence must be a square number; it is ",
        sequence));
  }
  Sha256 hash;
  hash.Update("pathfinder");
  WEFT_ASSIGN_OR_RETURN(Listing listing, ListImages(files.folder, hash));
  const auto count = static_cast<int64_t>(listing.images.size());
  const int64_t tenth = count / 10;
  if (tenth < 1) {
    return absl::InvalidArgumentError(absl::StrCat(files.folder, " has ", count,
                                                   " images; ten are the least that can be split "
                                                   "8:1:1"));
  }
  const int64_t train = count - 2 * tenth;
  hash.UpdateInteger(static_cast<uint64_t>(sequence));
  hash.UpdateInteger(static_cast<uint64_t>(held_out));
  hash.UpdateInteger(files.mask_zero_pixels ? 1 : 0);
  SampleSourceFacts facts = {
      .shape = ImageShape(sequence, 2, files.mask_zero_pixels),
      .train_samples = train,
      .validation_samples = tenth,
      .fingerprint = hash.Finish(),
      .description = absl::StrCat(
          "Pathfinder from ", files.folder,
          listing.empty_files > 0 ? absl::StrCat(" without ", listing.empty_files, " empty files")
                                  : "",
          files.mask_zero_pixels ? ", black pixels masked," : "")};
  const int64_t first = held_out == HeldOut::kTest ? train + tenth : train;
  return std::make_unique<PathfinderReader>(std::move(facts), files.folder,
                                            std::move(listing.images), first);
}

}  // namespace weft::worker
