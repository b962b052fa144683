import type { ComponentChildren, JSX } from "preact";
import { useId, useState } from "preact/hooks";
import { ApiError } from "../protocol/rest";

interface FieldProps extends Omit<JSX.InputHTMLAttributes<HTMLInputElement>, "onInput"> {
  label: string;
  value: string;
  change: (value: string) => void;
  error?: string | undefined;
  hint?: string;
  testId?: string;
}

export function Field({ label, value, change, error, hint, testId, ...rest }: FieldProps): JSX.Element {
  const id = useId();
  const note = error ?? hint;
  return (
    <div class={`field${error ? " invalid" : ""}`}>
      <label for={id}>{label}</label>
      <input
        {...rest}
        id={id}
        value={value}
        data-testid={testId}
        aria-invalid={error ? true : undefined}
        aria-describedby={note ? `${id}-note` : undefined}
        onInput={(event) => change(event.currentTarget.value)}
      />
      {note && (
        <p id={`${id}-note`} class="field-note" role={error ? "alert" : undefined}>
          {note}
        </p>
      )}
    </div>
  );
}

interface SwitchProps {
  label: string;
  hint?: string;
  checked: boolean;
  change: (checked: boolean) => void;
}

export function Switch({ label, hint, checked, change }: SwitchProps): JSX.Element {
  const id = useId();
  return (
    <div class="switch-row">
      <div>
        <label for={id}>{label}</label>
        {hint && <p class="field-note">{hint}</p>}
      </div>
      <input
        id={id}
        type="checkbox"
        role="switch"
        class="switch"
        checked={checked}
        onChange={(event) => change(event.currentTarget.checked)}
      />
    </div>
  );
}

interface SegmentsProps<T extends string> {
  label: string;
  value: T;
  options: readonly { value: T; label: string }[];
  change: (value: T) => void;
}

/** A choice of a few, all in sight. Native radio buttons give it its keys. */
export function Segments<T extends string>({ label, value, options, change }: SegmentsProps<T>): JSX.Element {
  const name = useId();
  return (
    <fieldset class="segments">
      <legend>{label}</legend>
      <div class="segments-row">
        {options.map((option) => (
          <label key={option.value} class={option.value === value ? "chosen" : ""}>
            <input type="radio" name={name} checked={option.value === value} onChange={() => change(option.value)} />
            <span>{option.label}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

interface FormState {
  busy: boolean;
  error: string | undefined;
  fields: Record<string, string>;
  submit: (event: Event) => void;
}

/** Runs a form's action once at a time and sorts what the server objects to by field. */
export function useForm(action: () => Promise<void>): FormState {
  const [state, setState] = useState<Omit<FormState, "submit">>({ busy: false, error: undefined, fields: {} });
  const submit = (event: Event) => {
    event.preventDefault();
    if (state.busy) return;
    setState({ busy: true, error: undefined, fields: {} });
    action().then(
      () => setState({ busy: false, error: undefined, fields: {} }),
      (error: unknown) => {
        const fields = error instanceof ApiError ? error.fields : {};
        const message = error instanceof Error ? error.message : String(error);
        setState({ busy: false, error: Object.keys(fields).length > 0 ? undefined : message, fields });
      },
    );
  };
  return { ...state, submit };
}

export function FormError({ children }: { children: ComponentChildren }): JSX.Element | null {
  return children ? (
    <p class="form-error" role="alert">
      {children}
    </p>
  ) : null;
}
