"""The parts of the programme: which tests, how often by default and in the long form."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One row of the programme.

    Attributes:
        id: as in docs/reproducibility.md.
        what: in a few words.
        nodes: of pytest: files, or tests in files.
        variable: of the environment, that carries the count; empty where the cases are fixed.
        count, long: how often by default and in the long form.
        minutes, long_minutes: time limits.
    """

    id: str
    what: str
    nodes: tuple[str, ...]
    variable: str = ""
    count: int = 0
    long: int = 0
    minutes: float = 5
    long_minutes: float = 15


KILLS = "tests/slow/test_kills.py::"
DEVICES = "tests/slow/test_devices.py::"
REPRODUCIBLE = "tests/slow/test_reproducible.py::"
CHECKPOINTS = "tests/training/test_checkpoints.py::"
RESUME = "tests/training/test_resume.py::"
STEP = "tests/training/test_step.py::"
EVALUATOR = "tests/training/test_evaluator.py::"
FOLDER = "tests/training/test_run_folder.py::"

PARTS = (
    Part(
        "K1", "SIGKILL at random moments, then the bits of a run never stopped",
        (f"{KILLS}test_sigkill_at_random_moments",), "ZOO_KILLS", 20, 200, 12, 75,
    ),
    Part(
        "K2", "SIGTERM and SIGINT at random moments, twice, and before the first step",
        (
            f"{KILLS}test_signals_save_and_exit",
            f"{KILLS}test_signals_before_there_is_anything_to_save",
            f"{KILLS}test_a_second_signal_ends_at_once",
            f"{DEVICES}test_a_signal_to_one_of_two_processes_stops_both",
        ), "ZOO_SIGNALS", 8, 40, 10, 20,
    ),
    Part(
        "K3", "SIGKILL of one of two processes", ("tests/slow/test_peers.py",),
        "ZOO_PEER_KILLS", 3, 12, 12, 35,
    ),
    Part(
        "C1", "damage to any file of a checkpoint", ("tests/programme/test_damage.py",),
        "ZOO_DAMAGE", 200, 2000, 5, 20,
    ),
    Part(
        "C2", "all steps damaged, strays, partial copies, other names, other people's files",
        (
            f"{CHECKPOINTS}test_all_damaged_is_an_error_and_not_a_new_start",
            f"{CHECKPOINTS}test_stray_folders_do_not_stop_a_resume",
            f"{CHECKPOINTS}test_a_step_under_another_name_is_not_believed",
            f"{CHECKPOINTS}test_a_file_in_the_place_of_a_step_is_passed_over",
            f"{CHECKPOINTS}test_quarantine_never_overwrites",
            f"{CHECKPOINTS}test_a_step_that_was_set_aside_can_be_saved_again",
            f"{CHECKPOINTS}test_another_model_is_no_damage",
            f"{CHECKPOINTS}test_a_changed_number_with_a_valid_file_is_seen",
            f"{RESUME}test_all_checkpoints_damaged_is_an_error",
            f"{RESUME}test_checkpoints_without_a_config_are_refused",
        ),
    ),
    Part(
        "C3", "disks that are full, limited, read-only or broken",
        (
            "tests/programme/test_disks.py",
            f"{CHECKPOINTS}test_a_full_disk_keeps_what_was_saved",
            f"{CHECKPOINTS}test_a_failing_save_is_loud_and_keeps_the_last",
            f"{CHECKPOINTS}test_read_only_moves_nothing",
        ), "ZOO_BUDGETS", 5, 20,
    ),
    Part(
        "C4", "wrong clocks, time zones and names; two runs in one folder",
        (
            "tests/programme/test_clocks.py",
            f"{CHECKPOINTS}test_a_step_under_another_name_is_not_believed",
            f"{RESUME}test_one_folder_one_writer",
        ),
    ),
    Part(
        "T1", "one digest on 1, 2, 4 and 8 devices, by jit and pmap, in 1 and 2 processes",
        (
            f"{REPRODUCIBLE}test_one_digest_on_1_2_4_and_8_devices_by_jit_and_pmap",
            f"{REPRODUCIBLE}test_two_processes_have_the_digest_of_one",
            f"{DEVICES}test_losses_over_100_steps_without_batch_norm",
            f"{DEVICES}test_losses_over_5_steps_with_batch_norm",
            f"{DEVICES}test_jit_and_pmap_agree_bit_for_bit",
            f"{DEVICES}test_two_processes",
            f"{DEVICES}test_two_processes_start_from_a_run_and_cut_the_state",
        ), "ZOO_REPRODUCIBLE_STEPS", 10, 100, 20, 60,
    ),
    Part(
        "T2", "saved on n devices, resumed on m",
        (
            "tests/programme/test_resizes.py",
            f"{REPRODUCIBLE}test_a_run_resized_by_kills_has_the_digest",
            f"{DEVICES}test_a_checkpoint_continues_under_any_mode",
        ), "ZOO_RESIZES", 4, 16, 15, 35,
    ),
    Part(
        "T3", "one step repeated; fresh processes, cold and warm cache, one core and all",
        ("tests/programme/test_repeats.py",), "ZOO_REPEATS", 200, 1000,
    ),
    Part(
        "D1", "one data order on any number of hosts and threads, from any step",
        ("tests/programme/test_order.py",), "ZOO_ORDERS", 100, 1000,
    ),
    Part(
        "D2", "damaged and hostile data files",
        (
            "tests/programme/test_hostile_data.py",
            "tests/data/test_images.py",
            "tests/data/test_tables.py::test_malformed_rows_are_named_or_skipped",
            "tests/data/test_tables.py::test_malformed_json_lines_are_named_or_skipped",
            "tests/data/test_tables.py::test_hopeless_files_are_one_clear_error",
            "tests/data/test_binaries.py::test_damaged_idx_files_are_named",
        ), "ZOO_HOSTILE_DATA", 200, 2000, 5, 20,
    ),
    Part(
        "G1", "ids, labels and lengths outside their range",
        (
            "tests/tasks/test_check.py",
            f"{EVALUATOR}test_a_bad_example_is_named_in_evaluation",
            f"{EVALUATOR}test_a_bad_example_is_named_in_training",
        ),
    ),
    Part(
        "G2", "NaN in loss, gradients, parameters, averages and data",
        (
            "tests/programme/test_nans.py",
            f"{STEP}test_a_nan_leaves_everything_as_it_was",
            f"{STEP}test_a_skipped_step_does_not_move_the_schedule",
            f"{STEP}test_a_gradient_that_is_not_finite_counts_as_failure",
            f"{FOLDER}test_a_nan_stops_the_run_and_what_was_saved_stays",
            f"{FOLDER}test_skipped_updates_are_counted_and_the_run_goes_on",
        ),
    ),
    Part(
        "G3", "accumulation, padding, order and batch size change no gradient and no metric",
        (
            f"{STEP}test_accumulation_is_one_batch",
            f"{STEP}test_rows_of_weight_zero_change_nothing",
            f"{EVALUATOR}test_metrics_do_not_depend_on_how_they_are_computed",
            "tests/tasks/test_tasks.py::"
            "test_sums_are_the_same_however_the_examples_are_cut_and_padded",
            "tests/tasks/test_tasks.py::test_padded_rows_get_a_gradient_of_exactly_zero",
            "tests/parallel/test_reproducible.py::test_the_gradient_is_that_of_the_whole_batch",
        ),
    ),
    Part(
        "G4", "types of parameters and optimizer state from the first step on; one compilation",
        (
            f"{STEP}test_types_stay_and_the_step_compiles_once",
            f"{STEP}test_bfloat16_computes_and_float32_keeps",
            f"{STEP}test_bfloat16_parameters_stay_bfloat16",
            f"{CHECKPOINTS}test_a_round_trip_keeps_every_bit",
        ),
    ),
    Part(
        "G5", "random masks differ by step, layer, row and device, and are the same after a resume",
        (
            "tests/nn/test_dropout.py",
            f"{STEP}test_key_and_batch_change_with_the_step",
            "tests/parallel/test_reproducible.py::test_dropout_differs_between_virtual_shards",
            f"{RESUME}test_stopped_by_signals_and_resumed",
        ),
    ),
    Part(
        "F1", "hostile command lines and config.json",
        (
            "tests/programme/test_hostile_configs.py",
            "tests/test_config.py::test_nothing_is_imported_from_a_run_folder",
            "tests/test_config.py::test_deep_nesting_is_an_input_error",
        ), "ZOO_HOSTILE_CONFIGS", 1000, 10000, 5, 20,
    ),
    Part("X1", "known miscompilations", ("tests/inspect/test_canaries.py",)),
    Part(
        "M1", "replay from the receipt alone; causes that were planted",
        ("tests/training/test_replay.py", "tests/slow/test_edited_source.py"),
    ),
)  # fmt: skip

OUTSIDE_SUITE = ("tests/slow/", "tests/programme/")
"""Where plain `pytest` does not look."""
