// Buttons that copy what stands elsewhere on the page. Without a clipboard the code is selected by one click instead.

const TOLD_FOR = 2000; // ms

/** Make the copy buttons within a part of the page work. */
export function offerCopy(part = document) {
  if (!navigator.clipboard) return;
  for (const button of part.querySelectorAll("[data-copy]")) {
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
      button.textContent = button.dataset.done; // the button has the focus: its new name is read out
      setTimeout(() => { button.textContent = label; }, TOLD_FOR);
    });
  }
}

offerCopy();
