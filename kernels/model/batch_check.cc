#include "kernels/model/batch_check.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace temper {
namespace {

absl::Status Bad(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("token batch: ", what));
}

absl::Status CheckSizes(const ModelConfig& config, const TokenBatch& batch,
                        int64_t tokens_max) {
  const int64_t n = batch.size();
  if (n < 1 || n > tokens_max) {
    return Bad(absl::StrCat(n, " tokens; 1 to ", tokens_max, " are possible"));
  }
  const auto is_n = [n](const std::vector<int32_t>& x) {
    return static_cast<int64_t>(x.size()) == n;
  };
  if (!is_n(batch.position) || !is_n(batch.sequence) || !is_n(batch.slot)) {
    return Bad(
        absl::StrCat("position, sequence and slot must have one entry "
                     "for each of the ",
                     n, " tokens"));
  }
  const int64_t routes = n * config.moe_layers() * config.num_experts_per_tok;
  if (static_cast<int64_t>(batch.routes.size()) != routes) {
    return Bad(absl::StrCat(batch.routes.size(), " route entries; ", routes,
                            " are needed"));
  }
  if (batch.blocks_max < 1 || batch.blocks.empty() ||
      batch.blocks.size() % batch.blocks_max != 0 || batch.page_tokens < 1) {
    return Bad(absl::StrCat("blocks of ", batch.blocks.size(),
                            " entries do not make rows of blocks_max ",
                            batch.blocks_max));
  }
  return absl::OkStatus();
}

// Each token on its own, and how far each sequence is read.
absl::Status CheckTokens(const ModelConfig& config, const TokenBatch& batch,
                         bool training, std::vector<int32_t>* last) {
  const int64_t sequences =
      static_cast<int64_t>(batch.blocks.size()) / batch.blocks_max;
  const int64_t keys_max =
      std::min<int64_t>(config.max_position_embeddings,
                        int64_t{batch.blocks_max} * batch.page_tokens);
  last->assign(sequences, -1);
  for (int64_t i = 0; i < batch.size(); ++i) {
    const auto bad = [i](const char* member, int32_t value, int64_t limit) {
      return Bad(absl::StrCat(member, " ", value, " of token ", i,
                              " is not in 0 .. ", limit - 1));
    };
    if (batch.tokens[i] < 0 || batch.tokens[i] >= config.vocab_size) {
      return bad("id", batch.tokens[i], config.vocab_size);
    }
    if (batch.position[i] < 0 || batch.position[i] >= keys_max) {
      return bad("position", batch.position[i], keys_max);
    }
    if (batch.sequence[i] < 0 || batch.sequence[i] >= sequences) {
      return bad("sequence", batch.sequence[i], sequences);
    }
    if (training && batch.slot[i] != i) {
      return Bad(absl::StrCat("slot ", batch.slot[i], " of token ", i,
                              "; in training the slot is the row"));
    }
    // A row that fills the batch: its keys go nowhere, and what it reads is
    // checked with its sequence.
    const bool fills = !training && batch.slot[i] == -1;
    const int64_t block =
        batch.blocks[int64_t{batch.sequence[i]} * batch.blocks_max +
                     batch.position[i] / batch.page_tokens];
    if (!fills && batch.slot[i] != block * batch.page_tokens +
                                       batch.position[i] % batch.page_tokens) {
      return Bad(absl::StrCat("slot ", batch.slot[i], " of token ", i,
                              " is not where its blocks put position ",
                              batch.position[i]));
    }
    (*last)[batch.sequence[i]] =
        std::max((*last)[batch.sequence[i]], batch.position[i]);
  }
  return absl::OkStatus();
}

absl::Status CheckBlocks(const TokenBatch& batch, int64_t rows,
                         const std::vector<int32_t>& last) {
  for (size_t s = 0; s < last.size(); ++s) {
    // All that the sequence's last query may read, not its own slots only.
    for (int32_t p = 0; p <= last[s]; p += batch.page_tokens) {
      const int64_t block =
          batch.blocks[s * batch.blocks_max + p / batch.page_tokens];
      const int64_t tokens = std::min(batch.page_tokens, last[s] - p + 1);
      if (block < 0 || block * batch.page_tokens + tokens > rows) {
        return Bad(absl::StrCat("block ", block, " of sequence ", s,
                                " lies outside the ", rows, " key rows"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRoutes(const ModelConfig& config, const TokenBatch& batch) {
  const int64_t experts = config.num_experts_per_tok;
  const int64_t sets = static_cast<int64_t>(batch.routes.size()) / experts;
  for (int64_t set = 0; set < sets; ++set) {
    const int32_t* route = batch.routes.data() + set * experts;
    // To be chosen on the device.
    if (route[0] < 0) continue;
    for (int64_t a = 0; a < experts; ++a) {
      if (route[a] >= config.n_routed_experts ||
          (a > 0 && route[a] <= route[a - 1])) {
        return Bad(absl::StrCat("route ", route[a], " in slot ", a,
                                " of token ", set / config.moe_layers(),
                                ", MoE layer ", set % config.moe_layers(),
                                "; distinct ascending experts below ",
                                config.n_routed_experts, " are needed"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBatch(const ModelConfig& config, const TokenBatch& batch,
                        int64_t tokens_max, int64_t rows, bool training,
                        std::vector<int32_t>* last) {
  RETURN_IF_ERROR(CheckSizes(config, batch, tokens_max));
  RETURN_IF_ERROR(CheckTokens(config, batch, training, last));
  RETURN_IF_ERROR(CheckBlocks(batch, rows, *last));
  return CheckRoutes(config, batch);
}

int64_t KeysMax(const TokenBatch& batch) {
  int64_t keys = 0;
  for (const int32_t position : batch.position) {
    keys = std::max<int64_t>(keys, int64_t{position} + 1);
  }
  return keys;
}

}  // namespace temper
