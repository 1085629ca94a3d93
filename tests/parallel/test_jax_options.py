import json

import jax
import pytest

from mnist_jax.checkpoint.load import load_model
from mnist_jax.commands import shared_flags
from mnist_jax.errors import ConfigError
from mnist_jax.parallel import jax_options, processes
from mnist_jax.parallel.jax_options import (
    COMPARED,
    COMPARED_VARIABLES,
    REQUIRED,
    REQUIRED_OF_RANDOM,
    check_options,
    check_same_options,
    compared_options,
    require_options,
)
from mnist_jax.train import train_and_evaluate

# The options that change no result, of every version of JAX that this project runs on.
# Decide on a new one before you add it here: train and predict under other values.
NO_MATTER = {
    # Devices and processes.
    "jax_backend_target",
    "jax_check_proxy_envs",
    "jax_cpu_collectives_implementation",
    "jax_cpu_enable_async_dispatch",
    "jax_cpu_get_global_topology_timeout_minutes",
    "jax_cpu_get_local_topology_timeout_minutes",
    "jax_cross_host_transfer_socket_address",
    "jax_cross_host_transfer_timeout_seconds",
    "jax_cross_host_transfer_transfer_size",
    "jax_cross_host_transport_addresses",
    "jax_cuda_visible_devices",
    "jax_debug_leaked_clients_on_clear_backends",
    "jax_default_device",
    "jax_distributed_debug",
    "jax_distributed_verify_secure_credentials",
    "jax_enable_preemption_service",
    "jax_enable_recoverability",
    "jax_force_dcn_cross_host_transfers",
    "jax_mock_gpu_topology",
    "jax_mtls_ca_file",
    "jax_mtls_cert_file",
    "jax_mtls_key_file",
    "jax_mtls_peer_uri_prefix",
    "jax_num_cpu_devices",
    "jax_oneapi_visible_devices",
    "jax_pjrt_client_create_options",
    "jax_platform_name",
    "jax_platforms",
    "jax_rocm_visible_devices",
    "jax_share_binary_between_hosts",
    "jax_share_binary_between_hosts_timeout_ms",
    "jax_sort_devices_by_process_index",
    "jax_xla_backend",
    "mock_num_gpu_processes",
    # Logs, tracebacks, dumps.
    "jax_captured_constants_report_frames",
    "jax_captured_constants_warn_bytes",
    "jax_compiler_detailed_logging_min_ops",
    "jax_debug_log_modules",
    "jax_dump_ir_modes",
    "jax_dump_ir_to",
    "jax_explain_cache_misses",
    "jax_hlo_source_file_canonicalization_regex",
    "jax_include_debug_info_in_dumps",
    "jax_include_full_tracebacks_in_locations",
    "jax_log_checkpoint_residuals",
    "jax_log_compiles",
    "jax_logging_level",
    "jax_mosaic_unzip_debug_locations",
    "jax_pallas_verbose_errors",
    "jax_pprint_use_color",
    "jax_send_traceback_to_runtime",
    "jax_source_url_schema",
    "jax_traceback_filtering",
    "jax_traceback_in_locations_limit",
    "jax_tracer_error_num_traceback_frames",
    # The cache of compiled programs; profiles.
    "jax_compilation_cache_check_contents",
    "jax_compilation_cache_dir",
    "jax_compilation_cache_expect_pgle",
    "jax_compilation_cache_include_metadata_in_key",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
    "jax_enable_pgle",
    "jax_persistent_cache_enable_xla_caches",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_pgle_aggregation_percentile",
    "jax_pgle_profiling_runs",
    "jax_raise_persistent_cache_errors",
    "jax_remove_custom_partitioning_ptr_from_cache_key",
    "jax_xla_profile_version",
    # Checks, which stop a program or let it be.
    "check_vma",
    "jax_array_garbage_collection_guard",
    "jax_check_static_indices",
    "jax_check_tracer_leaks",
    "jax_debug_infs",
    "jax_debug_key_reuse",
    "jax_debug_nans",
    "jax_disable_bwd_checks",
    "jax_disable_vmap_shmap_error",
    "jax_disallow_mesh_context_manager",
    "jax_enable_checks",
    "jax_error_checking_behavior_divide",
    "jax_error_checking_behavior_nan",
    "jax_error_checking_behavior_oob",
    "jax_experimental_unsafe_xla_runtime_errors",
    "jax_legacy_prng_key",
    "jax_mutable_array_checks",
    "jax_pallas_enable_debug_checks",
    "jax_raise_on_ppermute_sort_diff",
    # Export.
    "jax2tf_associative_scan_reductions",
    "jax2tf_default_native_serialization",
    "jax_export_calling_convention_version",
    "jax_export_deserialize_expired_versions",
    "jax_export_ignore_forward_compatibility",
    "jax_serialization_version",
    # What nothing here uses.
    "jax_auto_pcast",
    "jax_bcoo_cusparse_lowering",
    "jax_embedded_constants_max_bytes",
    "jax_enable_custom_prng",
    "jax_mosaic_allow_hlo",
    "jax_pallas_auto_assign_collective_ids",
    "jax_pallas_auto_assign_collective_ids_limit",
    "jax_pallas_poison_buffers",
    "jax_pallas_use_mosaic_gpu",
    "jax_ragged_dot_use_gpu_pallas_triton_lowering",
    "jax_ragged_dot_use_ragged_dot_instruction",
    "jax_refs_to_pins",
    "jax_remove_size_one_mesh_axis_from_type",
    "jax_use_cpp_shard_args",
    "jax_use_emit_pipeline_primitive",
    "jax_use_magma",
    "jax_use_rgv3",
    "jax_use_simplified_jaxpr_constants",
}

OTHERS = {  # a value that is not allowed, for each option that is required
    "jax_enable_x64": True,
    "jax_explicit_x64_dtypes": "error",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_no_execution": True,
    "jax_thread_guard": True,
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_device_to_device": "disallow",
    "jax_transfer_guard_device_to_host": "disallow_explicit",
    "jax_transfer_guard_host_to_device": "disallow",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 1,
    "jax_high_dynamic_range_gumbel": True,
}


@pytest.fixture
def options():
    """Lets a test change JAX's options, and sets them back."""
    before = dict(jax.config.values)
    yield jax.config
    for name in OTHERS.keys() | {*COMPARED}:
        if name in before and jax.config.values[name] != before[name]:
            jax.config.update(name, before[name])
    jax.config.update("jax_transfer_guard", before["jax_transfer_guard"])


def test_somebody_has_decided_on_each_option_of_this_jax():
    decided = [*REQUIRED, *REQUIRED_OF_RANDOM, *COMPARED, *NO_MATTER]
    assert len(decided) == len(set(decided))
    assert set(jax.config.values) - set(decided) == set()
    assert OTHERS.keys() == {*REQUIRED, *REQUIRED_OF_RANDOM}


@pytest.mark.parametrize("name", OTHERS)
def test_a_command_sets_what_is_required(options, monkeypatch, capsys, name):
    if name not in jax.config.values:
        pytest.skip("not an option of this JAX")
    expected = dict(jax.config.values)
    monkeypatch.setenv(name.upper(), "from_outside")
    options.update(name, OTHERS[name])
    require_options()
    allowed = (REQUIRED | REQUIRED_OF_RANDOM)[name]
    assert jax_options.read_option(name) == allowed[0]
    changed = {n for n in expected if jax.config.values[n] != expected[n]}
    assert all(n.startswith("jax_transfer_guard") for n in changed)
    errors = capsys.readouterr().err
    assert errors.startswith("warning: ")
    assert f"{name.upper()}=from_outside" in errors
    assert errors.count("\n") == 1
    require_options()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", OTHERS)
def test_a_function_refuses_what_it_is_not_written_for(options, name):
    if name not in jax.config.values:
        pytest.skip("not an option of this JAX")
    options.update(name, OTHERS[name])
    with pytest.raises(ConfigError, match=name) as caught:
        check_options(random=True)
    assert "\n" not in str(caught.value)
    assert "jax.config.update(" in str(caught.value)
    if name in REQUIRED_OF_RANDOM:
        check_options()
    else:
        with pytest.raises(ConfigError, match=name):
            check_options()


def test_the_value_within_a_block_counts():
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ConfigError):
        check_options()
    with jax.transfer_guard("log"):
        check_options()


def test_training_and_loading_change_no_option_of_their_host(
    options, tiny_config, trained_workdir, tmp_path
):
    options.update("jax_enable_x64", True)
    before = dict(jax.config.values)
    with pytest.raises(ConfigError, match="jax_enable_x64 is True"):
        train_and_evaluate(tiny_config, tmp_path / "run")
    with pytest.raises(ConfigError, match="jax_enable_x64 is True"):
        load_model(trained_workdir)
    assert jax.config.values == before
    assert not (tmp_path / "run").exists()
    options.update("jax_enable_x64", False)
    options.update("jax_default_prng_impl", "rbg")
    load_model(trained_workdir)  # it draws no numbers
    with pytest.raises(ConfigError, match="jax_default_prng_impl is 'rbg'"):
        train_and_evaluate(tiny_config, tmp_path / "run")


@pytest.mark.parametrize("name", [*COMPARED, *COMPARED_VARIABLES])
def test_what_changes_the_last_digits_is_compared(options, monkeypatch, name):
    saved = json.loads(json.dumps(compared_options()))
    check_same_options(saved)
    if name in COMPARED_VARIABLES:
        monkeypatch.setenv(name, "--xla_new=1")
    elif name not in jax.config.values:
        assert saved[name.upper()] is None
        return
    else:
        value = jax.config.values[name]
        levels = {"level": "O1", "matmul": "highest", "effort": 0.5}
        named = [v for part, v in levels.items() if part in name]
        options.update(name, named[0] if named else not value)
    with pytest.raises(ConfigError, match=f"{name.upper()} is .* began with"):
        check_same_options(saved)
    check_same_options({})  # a run of version 0.1.0


@pytest.mark.parametrize("flags", ["--xla_force_host_platform_device_count=4", " "])
def test_the_number_of_devices_may_change(monkeypatch, flags):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    saved = compared_options()
    monkeypatch.setenv("XLA_FLAGS", flags)
    check_same_options(saved)


def test_a_run_is_not_resumed_with_another_option(
    options, tiny_config, trained_workdir
):
    options.update("jax_default_matmul_precision", "highest")
    says = "JAX_DEFAULT_MATMUL_PRECISION is 'highest', but .* began with not set"
    with pytest.raises(ConfigError, match=says):
        train_and_evaluate(tiny_config, trained_workdir, resume=True)
    options.update("jax_default_matmul_precision", None)
    train_and_evaluate(tiny_config, trained_workdir, resume=True)


def test_processes_compare_their_options(monkeypatch):
    found = {}
    monkeypatch.setattr(processes, "join", lambda _, same: found.update(same) or 2)
    monkeypatch.setenv("XLA_FLAGS", "--xla_new=1")
    given = shared_flags.ProcessFlags(*[Flag(None)] * 5)
    given = given._replace(distributed=Flag(True))
    assert shared_flags.join_processes(given, {}) == 2
    assert found["XLA_FLAGS"] == "--xla_new=1"
    assert found["JAX_OPTIMIZATION_LEVEL"] == "UNKNOWN"


class Flag:
    def __init__(self, value):
        self.value = value
