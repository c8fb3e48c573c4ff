"""The types of `compiled.pyx`: those of `reference.py` and `thinning.py`, by name."""

from riverlog.kernels.checking import check_batches as check_batches
from riverlog.kernels.offset_map import OffsetMap as OffsetMap
from riverlog.kernels.offset_map import checksum as checksum
from riverlog.kernels.offset_map import keyed_hash as keyed_hash
from riverlog.kernels.reference import encode_records as encode_records
from riverlog.kernels.reference import first_at_or_after as first_at_or_after
from riverlog.kernels.reference import first_null_key as first_null_key
from riverlog.kernels.reference import max_timestamp as max_timestamp
from riverlog.kernels.reference import murmur2 as murmur2
from riverlog.kernels.reference import partition_for_key as partition_for_key
from riverlog.kernels.reference import read_varlongs as read_varlongs
from riverlog.kernels.reference import record_spans as record_spans
from riverlog.kernels.reference import walk_batches as walk_batches
from riverlog.kernels.reference import write_varlongs as write_varlongs
from riverlog.kernels.thinning import map_records as map_records
from riverlog.kernels.thinning import map_window as map_window
from riverlog.kernels.thinning import rebase_records as rebase_records
from riverlog.kernels.thinning import thin_records as thin_records
from riverlog.kernels.thinning import thin_window as thin_window
