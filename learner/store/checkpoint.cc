#include "learner/store/checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/checksum.h"
#include "kernels/base/file.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

namespace fs = std::filesystem;

constexpr char kManifest[] = "MANIFEST";
constexpr char kHeader[] = "temper checkpoint 1";
constexpr char kPrefix[] = "step_";
constexpr char kTemporary[] = ".tmp-";
constexpr char kDiscarded[] = ".old-";
constexpr uint64_t kManifestBytesMax = 1 << 20;
constexpr uint64_t kFileBytesMax = uint64_t{1} << 40;
constexpr int kSameStepMax = 1000;

// Whether `status` is of the checkpoint itself: damaged, a file of it gone, or
// not one to take. Anything else is the machine's or another's fault, and may
// be gone when one tries again: to pass over the checkpoint for it would throw
// away what was trained since the one before.
bool IsOfTheCheckpoint(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status) ||
         absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
}

absl::Status CannotBeRead(const std::string& directory,
                          const absl::Status& status) {
  return absl::Status(
      status.code(),
      absl::StrCat(directory,
                   " cannot be read: ", std::string(status.message()),
                   "; try again, or remove it to go on from the one before"));
}

struct File {
  std::string name;  // relative to the checkpoint
  uint64_t size = 0;
  uint32_t crc = 0;
};

struct Manifest {
  int64_t step = 0;
  uint64_t number = 0;
  std::vector<File> files;
};

// Lines: header, "step N number M", then "crc size name"; the last line is
// "end" with the CRC-32C of all before it.
std::string Format(const Manifest& manifest) {
  std::string text = absl::StrCat(kHeader, "\nstep ", manifest.step, " number ",
                                  manifest.number, "\n");
  for (const File& file : manifest.files) {
    absl::StrAppend(&text, file.crc, " ", file.size, " ", file.name, "\n");
  }
  absl::StrAppend(&text, "end ", Crc32c(text), "\n");
  return text;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kManifest);
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kManifestBytesMax));
  const absl::Status damaged =
      absl::DataLossError(absl::StrCat(path, " is damaged"));
  // The last line sums up all before it: a manifest cut short, or made of two,
  // is told from a whole one without knowing how many files there were.
  const size_t end = text.rfind("end ");
  uint32_t crc = 0;
  if (end == std::string::npos || text.empty() || text.back() != '\n' ||
      !absl::SimpleAtoi(text.substr(end + 4, text.size() - end - 5), &crc) ||
      crc != Crc32c(text.substr(0, end))) {
    return damaged;
  }
  Manifest manifest;
  const std::vector<std::string> lines =
      absl::StrSplit(text.substr(0, end), '\n', absl::SkipEmpty());
  if (lines.size() < 2 || lines[0] != kHeader ||
      std::sscanf(lines[1].c_str(), "step %" SCNd64 " number %" SCNu64,
                  &manifest.step, &manifest.number) != 2) {
    return damaged;
  }
  for (size_t i = 2; i < lines.size(); ++i) {
    const std::vector<std::string> fields =
        absl::StrSplit(lines[i], absl::MaxSplits(' ', 2));
    File& file = manifest.files.emplace_back();
    if (fields.size() != 3 || !absl::SimpleAtoi(fields[0], &file.crc) ||
        !absl::SimpleAtoi(fields[1], &file.size)) {
      return damaged;
    }
    file.name = fields[2];
  }
  return manifest;
}

// Files below `root`, relative, ascending; every directory below it is fsynced.
absl::StatusOr<std::vector<std::string>> SyncTree(const std::string& root) {
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error);
  for (; !error && entry != fs::recursive_directory_iterator();
       entry.increment(error)) {
    const std::string path = entry->path().string();
    const std::string name = path.substr(root.size() + 1);
    if (!entry->is_directory() && !entry->is_regular_file()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is neither a file nor a directory"));
    }
    if (name == kManifest || name.find('\n') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is no name for a checkpoint's file"));
    }
    // Before the manifest says that they are there.
    RETURN_IF_ERROR(SyncPath(path));
    if (entry->is_regular_file()) files.push_back(name);
  }
  if (error) return FileError("list", root, error.value());
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<File> Measure(const std::string& root, const std::string& name) {
  File file;
  file.name = name;
  // In pieces: a mapping would count as this process's memory.
  RETURN_IF_ERROR(ReadPieces(absl::StrCat(root, "/", name), kFileBytesMax,
                             [&file](const char* data, size_t size) {
                               file.size += size;
                               file.crc = Crc32c(data, size, file.crc);
                             }));
  return file;
}

absl::Status Verify(const std::string& directory, const Manifest& manifest) {
  for (const File& file : manifest.files) {
    ASSIGN_OR_RETURN(const File found, Measure(directory, file.name));
    if (found.size != file.size || found.crc != file.crc) {
      return absl::DataLossError(
          absl::StrCat(file.name, " has ", found.size, " bytes and CRC-32C ",
                       found.crc, ", not ", file.size, " and ", file.crc));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointStore>> CheckpointStore::Create(
    const CheckpointOptions& options) {
  // With one only, the moment of its replacement would be one without any.
  if (options.keep < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("keep is ", options.keep,
                     "; at least 2 checkpoints are kept, for one may be "
                     "damaged"));
  }
  RETURN_IF_ERROR(MakeDirectories(options.directory));
  RETURN_IF_ERROR(SyncPath(ParentOf(options.directory)));
  return std::unique_ptr<CheckpointStore>(new CheckpointStore(options));
}

std::string CheckpointStore::Path(const std::string& name) const {
  return absl::StrCat(options_.directory, "/", name);
}

absl::StatusOr<std::vector<CheckpointStore::Entry>> CheckpointStore::List(
    const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   ListDirectory(directory));
  std::vector<Entry> entries;
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kPrefix)) continue;
    Entry& entry = entries.emplace_back();
    entry.name = name;
    const std::string path = absl::StrCat(directory, "/", name);
    auto manifest = ReadManifest(path);
    if (manifest.ok()) {
      entry.step = manifest->step;
      entry.number = manifest->number;
    } else if (IsOfTheCheckpoint(manifest.status())) {
      // Its place in the order is unknown: reported before all others.
      entry.number = UINT64_MAX;
      entry.damage = manifest.status();
    } else {
      return CannotBeRead(path, manifest.status());
    }
  }
  // By number, not by step: after a resume step 4 may be newer than step 6.
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.number > b.number; });
  return entries;
}

absl::StatusOr<std::string> CheckpointStore::Newest(
    const std::string& directory) {
  const auto entries = List(directory);
  if (absl::IsNotFound(entries.status())) return "";
  RETURN_IF_ERROR(entries.status());
  for (const Entry& entry : *entries) {
    if (entry.damage.ok()) return absl::StrCat(directory, "/", entry.name);
  }
  return "";
}

absl::Status CheckpointStore::ClearLeftovers() {
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   ListDirectory(options_.directory));
  for (const std::string& name : names) {
    if (absl::StartsWith(name, kTemporary) ||
        absl::StartsWith(name, kDiscarded)) {
      RETURN_IF_ERROR(RemoveAll(Path(name)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> CheckpointStore::Save(int64_t step,
                                                  const Writer& write) {
  // Of a save that was killed: it holds as much disk as a whole one.
  RETURN_IF_ERROR(ClearLeftovers());
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, List(options_.directory));
  Manifest manifest;
  manifest.step = step;
  for (const Entry& entry : entries) {
    if (entry.damage.ok()) {
      manifest.number = std::max(manifest.number, entry.number);
    }
  }
  ++manifest.number;
  const std::string temporary = Path(absl::StrCat(kTemporary, kPrefix, step));
  RETURN_IF_ERROR(MakeDirectories(temporary));
  const auto fill = [&]() -> absl::Status {
    RETURN_IF_ERROR(write(temporary));
    ASSIGN_OR_RETURN(const std::vector<std::string> names, SyncTree(temporary));
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(manifest.files.emplace_back(), Measure(temporary, name));
    }
    return WriteFileDurably(absl::StrCat(temporary, "/", kManifest),
                            Format(manifest));
  };
  // Files, then the manifest, then the rename, each durable before the next:
  // whatever has a checkpoint's name is whole, or was damaged later.
  absl::Status status = fill();
  std::string name = absl::StrCat(kPrefix, step);
  for (int again = 2; status.ok(); ++again) {
    // rename(2) refuses a directory that is not empty.
    status = RenameDurably(temporary, Path(name));
    if (status.ok()) break;
    if (!absl::IsAlreadyExists(status) || again > kSameStepMax) break;
    // The step was saved before by an attempt that a resume undid. That one is
    // kept: it may be the only other that verifies.
    name = absl::StrCat(kPrefix, step, ".", again);
    status = absl::OkStatus();
  }
  if (!status.ok()) {
    RemoveAll(temporary).IgnoreError();  // the first error is the one to tell
    return status;
  }
  RETURN_IF_ERROR(Prune());
  return Path(name);
}

absl::Status CheckpointStore::Prune() {
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, List(options_.directory));
  int kept = 0;
  for (const Entry& entry : entries) {
    // A damaged one is left for a person to look at, and counts as none.
    if (!entry.damage.ok()) continue;
    if (kept < options_.keep) {
      const auto manifest = ReadManifest(Path(entry.name));
      kept += manifest.ok() && Verify(Path(entry.name), *manifest).ok();
      continue;
    }
    // Renamed first: half removed it must not look like a damaged one.
    const std::string discarded = Path(absl::StrCat(kDiscarded, entry.name));
    RETURN_IF_ERROR(RenameDurably(Path(entry.name), discarded));
    RETURN_IF_ERROR(RemoveAll(discarded));
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadedCheckpoint> CheckpointStore::LoadNewest(
    const std::function<absl::Status(int64_t, const std::string&)>& accept) {
  ASSIGN_OR_RETURN(const std::vector<Entry> entries, List(options_.directory));
  LoadedCheckpoint loaded;
  for (const Entry& entry : entries) {
    const std::string directory = Path(entry.name);
    absl::Status status = entry.damage;
    if (status.ok()) {
      auto manifest = ReadManifest(directory);
      status = manifest.ok() ? Verify(directory, *manifest) : manifest.status();
      if (status.ok() && accept) status = accept(entry.step, directory);
    }
    if (status.ok()) {
      loaded.directory = directory;
      loaded.step = entry.step;
      return loaded;
    }
    if (!IsOfTheCheckpoint(status)) return CannotBeRead(directory, status);
    loaded.skipped.push_back(
        absl::StrCat("skipped ", directory, ": ", status.message()));
  }
  std::string message =
      absl::StrCat("no checkpoint in ", options_.directory, " can be loaded");
  for (const std::string& skipped : loaded.skipped) {
    absl::StrAppend(&message, "; ", skipped);
  }
  return absl::NotFoundError(message);
}

}  // namespace temper
